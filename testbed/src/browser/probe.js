// Measures what the video of a page shows: runs before the page's own scripts.
"use strict";
{
  // Beyond so many, the oldest latencies are forgotten.
  const MAX_LATENCIES = 10000;
  const BITS = 32;
  // What was decoded of media that the page has left, and of the present ones.
  const earlier = { frames: 0, dropped: 0, soundBytes: 0 };
  const present = { frames: 0, dropped: 0, soundBytes: 0 };
  let latencies = [];
  let unreadable = 0;
  let connections = 0;
  let video;

  const canvas = new OffscreenCanvas(BITS, 2);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingEnabled = false;

  // The stamp of `Source::Stamped`: a row of bits, the lowest first, and its inverse below.
  const stamp = () => {
    const { videoWidth: width, videoHeight: height } = video;
    context.drawImage(video, 0, 0, width, height / 9, 0, 0, BITS, 2);
    const pixels = context.getImageData(0, 0, BITS, 2).data;
    const isOne = pixel => pixels[4 * pixel] > 127;
    let value = 0;
    for (let bit = 0; bit < BITS; bit++) {
      if (isOne(bit) === isOne(BITS + bit)) return null;
      if (isOne(bit)) value += 2 ** bit;
    }
    return value;
  };

  const count = () => {
    const quality = video.getVideoPlaybackQuality();
    // The browser begins at 0 a moment before it says that the media were left.
    const raise = (key, value) => { present[key] = Math.max(present[key], value); };
    raise("frames", quality.totalVideoFrames);
    raise("dropped", quality.droppedVideoFrames);
    raise("soundBytes", video.webkitAudioDecodedByteCount);
  };

  const leave = () => {
    for (const key in present) {
      earlier[key] += present[key];
      present[key] = 0;
    }
  };

  const look = (now, frame) => {
    video.requestVideoFrameCallback(look);
    const takenAt = stamp();
    if (takenAt === null) {
      unreadable++;
      return;
    }
    const shownAt = performance.timeOrigin + frame.expectedDisplayTime;
    const latency = (shownAt - takenAt) % 2 ** BITS;
    latencies.push(Math.round(latency));
    if (latencies.length > MAX_LATENCIES) latencies.shift();
  };

  addEventListener("DOMContentLoaded", () => {
    video = document.querySelector("video");
    if (!video) return;
    video.addEventListener("timeupdate", count);
    video.addEventListener("emptied", leave);
    video.addEventListener("loadeddata", () => connections++);
    video.requestVideoFrameCallback(look);
  });

  // Everything so far, and the latencies since the last call.
  window.playback = () => ({
    state: document.body.dataset.state,
    status: document.getElementById("status").textContent,
    current_time: video.currentTime,
    frames: earlier.frames + present.frames,
    dropped: earlier.dropped + present.dropped,
    sound_bytes: earlier.soundBytes + present.soundBytes,
    latencies_ms: latencies.splice(0),
    unreadable,
    connections,
  });
}
