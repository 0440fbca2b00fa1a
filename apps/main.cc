// The linnet command: arguments in, text out. What it does lives in the libraries.
#include <clocale>
#include <csignal>
#include <exception>
#include <new>

#include "apps/command_line.h"
#include "apps/common.h"
#include "runtime/core/strings.h"

int main(int argc, char** argv) {
  using namespace linnet;
  // Only the character set: numbers must look the same everywhere.
  std::setlocale(LC_CTYPE, "");
  // A file that may grow no further is an error that is told, not the end.
  std::signal(SIGXFSZ, SIG_IGN);
  try {
    app::CommandLine line;
    app::add_chat(line);
    app::add_image(line);
    app::add_run(line);
    app::add_inspect(line);
    app::add_bench(line);
    app::add_convert(line);
    return line.run(argc, argv);
  } catch (const std::bad_alloc&) {
    return app::complain({ErrorCode::kOutOfMemory, "the system has no memory left"});
  } catch (const std::exception& e) {
    return app::complain({ErrorCode::kInternal, strf("unexpected: {}", e.what())});
  }
}
