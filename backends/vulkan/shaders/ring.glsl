// The slot of a position in a ring that keeps the first `sinks` tokens for good (runtime/core/ring_slot.h).
uint ring_slot(uint position, uint sinks, uint capacity) {
  return position < sinks ? position : sinks + (position - sinks) % (capacity - sinks);
}
