#include "backends/reference/reference.h"
#include "linnet/linnet.h"

extern "C" const linnet_backend* linnet_backend_reference(void) {
  return reinterpret_cast<const linnet_backend*>(&linnet::reference_backend());
}
