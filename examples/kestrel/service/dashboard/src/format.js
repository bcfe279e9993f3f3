/** Seconds of the epoch as a time of day. */
export function formatTime(second) {
  return new Date(second * 1000).toISOString().slice(11, 16);
}
