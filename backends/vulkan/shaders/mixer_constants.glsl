// Constants 4 to 11 of the mixers that map queries and keys (mixer.h: mixer_constants).
layout(constant_id = 4) const uint FLAGS = 0u;
layout(constant_id = 5) const uint DECAY_KIND = 0u;
layout(constant_id = 6) const uint DECAY_FLAGS = 0u;
layout(constant_id = 7) const uint QUERY_ACTIVATION = 0u;
layout(constant_id = 8) const uint QUERY_NORM = 0u;
layout(constant_id = 9) const uint KEY_ACTIVATION = 0u;
layout(constant_id = 10) const uint KEY_NORM = 0u;
layout(constant_id = 11) const uint VALUE_ACTIVATION = 0u;
