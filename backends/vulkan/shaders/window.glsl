// Where window_linear_attention keeps the key and value of a position: in the chunk, or in the history, whose slot
// a token takes over from the one that leaves the window.
bool in_chunk(uint position) { return position >= params.position; }
uint window_slot(uint position) {
  return ring_slot(position, p.sinks, p.sinks + p.window);
}
