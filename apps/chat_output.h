// How a chat's answers and numbers reach the user: plain text on stdout, or one JSON object a line.
#pragma once

#include <string>
#include <string_view>

#include "linnet/chat.h"

namespace linnet::app {

class ChatOutput {
 public:
  // `notes`: a line about each turn goes to stderr; `stats`: with everything there is to know.
  ChatOutput(bool json, bool notes, bool stats) : json_(json), notes_(notes), stats_(stats) {}

  // False when standard output takes no more.
  bool piece(std::string_view text);
  void done(const Turn& turn, const Chat& chat);
  // After a command of a program: how many messages there are now.
  void history(const Chat& chat);
  // Returns the exit code the error stands for.
  int failed(const Error& error, std::string_view where = {});
  // "memory: weights 91 MiB, state ..."; on stderr, or an object in JSON.
  void memory(const Chat& chat);

 private:
  bool json_, notes_, stats_;
};

}  // namespace linnet::app
