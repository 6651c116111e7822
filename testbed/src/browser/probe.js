// Measures what the video of a page shows: runs before the page's own scripts.
"use strict";
{
  // Beyond so many, the oldest latencies are forgotten.
  const MAX_LATENCIES = 10000;
  const BITS = 32;
  // Of media that the page has left; of the present ones; of the newest picture.
  const earlier = { frames: 0, dropped: 0 };
  let counted = { frames: 0, dropped: 0 };
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

  const look = (now, frame) => {
    video.requestVideoFrameCallback(look);
    const quality = video.getVideoPlaybackQuality();
    counted = { frames: quality.totalVideoFrames, dropped: quality.droppedVideoFrames };
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
    video.addEventListener("emptied", () => {
      earlier.frames += counted.frames;
      earlier.dropped += counted.dropped;
      counted = { frames: 0, dropped: 0 };
    });
    video.addEventListener("loadeddata", () => connections++);
    video.requestVideoFrameCallback(look);
  });

  // Everything so far, and the latencies since the last call.
  window.playback = () => ({
    state: document.body.dataset.state,
    status: document.getElementById("status").textContent,
    current_time: video.currentTime,
    frames: earlier.frames + counted.frames,
    dropped: earlier.dropped + counted.dropped,
    latencies_ms: latencies.splice(0),
    unreadable,
    connections,
  });
}
