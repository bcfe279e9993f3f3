import { formatTime } from "./format.js";

/** The last reading of every receiver, the longest silent first. */
export function lastReadings(readings) {
  const last = new Map();
  for (const { receiver, second } of readings) {
    if (!last.has(receiver) || last.get(receiver) < second) {
      last.set(receiver, second);
    }
  }
  return [...last].sort((a, b) => a[1] - b[1]).map(([receiver, second]) => ({ receiver, heard: formatTime(second) }));
}
