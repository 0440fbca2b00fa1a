// Lines from a person at a terminal: editing, history, Ctrl-C.
#pragma once

#include <memory>
#include <string>

namespace linnet::app {

class LineEditor {
 public:
  enum class Outcome { kLine, kInterrupted, kEnd };

  // Takes over the terminal while read() waits. The prompt is written to stderr: stdout is for answers.
  LineEditor();
  ~LineEditor();
  LineEditor(const LineEditor&) = delete;
  LineEditor& operator=(const LineEditor&) = delete;

  // Reads one line, without its end; a line that ends in a backslash goes on in the next.
  Outcome read(const std::string& prompt, std::string& line);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace linnet::app
