"""What goes over the wire: requests and answers in OpenAI's form."""
