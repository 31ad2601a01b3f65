"""Sample logs of five made-up applications, and the generator that wrote them. What is what: README.md beside this file."""
