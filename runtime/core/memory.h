// How much memory this process may plan for.
#pragma once

#include <cstddef>

namespace linnet {

// The machine's memory, or what the process's control group (a container) or its limits leave of it.
size_t memory_of_system();
// Three quarters of that: what a session may plan unless it is told otherwise. The rest is for weights, which
// are mapped, and for everybody else.
size_t default_memory_limit();

}  // namespace linnet
