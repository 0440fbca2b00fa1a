#include "apps/line_editor.h"

#include <histedit.h>

#include <cerrno>
#include <clocale>
#include <cstdio>
#include <cstring>

#include "apps/common.h"

namespace linnet::app {

struct LineEditor::Impl {
  EditLine* edit = nullptr;
  History* history = nullptr;
  HistEvent event = {};
  std::string prompt;

  static char* prompt_of(EditLine* edit) {
    void* self = nullptr;
    el_get(edit, EL_CLIENTDATA, &self);
    return static_cast<Impl*>(self)->prompt.data();
  }
};

LineEditor::LineEditor() : impl_(std::make_unique<Impl>()) {
  // libedit reads characters, not bytes: without a locale it would take UTF-8 apart.
  const char* characters = std::setlocale(LC_CTYPE, nullptr);
  if (!characters || std::strcmp(characters, "C") == 0 || std::strcmp(characters, "POSIX") == 0)
    std::setlocale(LC_CTYPE, "C.UTF-8");
  impl_->edit = el_init("linnet", stdin, stderr, stderr);
  impl_->history = history_init();
  if (!impl_->edit || !impl_->history) return;
  history(impl_->history, &impl_->event, H_SETSIZE, 1000);
  el_set(impl_->edit, EL_CLIENTDATA, impl_.get());
  el_set(impl_->edit, EL_PROMPT, &Impl::prompt_of);
  el_set(impl_->edit, EL_HIST, history, impl_->history);
  el_set(impl_->edit, EL_EDITOR, "emacs");
  el_set(impl_->edit, EL_SIGNAL, 1);  // restores the terminal before a signal takes effect
  el_source(impl_->edit, nullptr);    // ~/.editrc
}

LineEditor::~LineEditor() {
  if (impl_->history) history_end(impl_->history);
  if (impl_->edit) el_end(impl_->edit);
}

LineEditor::Outcome LineEditor::read(const std::string& prompt, std::string& line) {
  line.clear();
  if (!impl_->edit) return Outcome::kEnd;
  impl_->prompt = prompt;
  for (;;) {
    int count = 0;
    const char* text = el_gets(impl_->edit, &count);
    if (!text || count <= 0) {
      if (interrupted()) {
        clear_interrupt();
        return Outcome::kInterrupted;
      }
      return Outcome::kEnd;
    }
    line.append(text, static_cast<size_t>(count));
    while (!line.empty() && (line.back() == '\n' || line.back() == '\r')) line.pop_back();
    if (line.empty() || line.back() != '\\') break;
    line.back() = '\n';
    impl_->prompt = ". ";
  }
  if (!line.empty() && impl_->history) history(impl_->history, &impl_->event, H_ENTER, line.c_str());
  return Outcome::kLine;
}

}  // namespace linnet::app
