//! The `callspan` program: parses the command line and exits with its status.

fn main() {}
