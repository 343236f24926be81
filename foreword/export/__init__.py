"""Other tools' formats, one file each: a foreword goes out to them and comes back in."""
