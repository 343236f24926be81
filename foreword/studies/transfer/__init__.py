"""Which task's foreword is a good start for which, and several tasks trained together."""
