// What the command says when a file that it has mapped is cut short by another program.
#pragma once

namespace linnet::app {

// The operating system ends a program with SIGBUS that reads a mapped file where there is no file any more.
// Sessions ask before each run whether their file is as it was; for what happens in between, the command ends
// with a message that names the file and exit code 1. For main() alone: a library leaves signals to its
// program.
void report_lost_files();

}  // namespace linnet::app
