// The player: HTTP-FLV by mpegts.js, HLS by hls.js or by the browser. The libraries are
// loaded when somebody first plays.

// Seconds of media that wait to be played: the target, beyond which the player goes faster,
// and beyond which it jumps.
const TARGET_BUFFER = 0.6;
const MAX_BUFFER = 1.2;

const hasMediaSource = "MediaSource" in window || "ManagedMediaSource" in window;

function load(script) {
  return new Promise((resolve, reject) => {
    const element = document.createElement("script");
    element.src = script;
    element.onload = resolve;
    element.onerror = () => reject(new Error(`cannot load ${script}`));
    document.head.append(element);
  });
}

export const ways = hasMediaSource ? ["flv", "hls"] : ["hls"];

// Each begins to play `url` in `video`, calls `lost` with a reason at an error or end, and
// gives functions back: one that ends it, and one that tells how many seconds it is behind.
const players = {
  async flv(video, url, lost) {
    if (!window.mpegts) await load("page/mpegts-1.8.2.js");
    mpegts.LoggingControl.applyConfig({ enableAll: false });
    const flv = mpegts.createPlayer({ type: "flv", isLive: true, url }, {
      enableStashBuffer: false, lazyLoad: false,
      liveSync: true, liveSyncTargetLatency: TARGET_BUFFER, liveSyncMaxLatency: MAX_BUFFER,
      autoCleanupSourceBuffer: true,
    });
    flv.on(mpegts.Events.ERROR, (type, detail, info) => {
      lost(info?.code > 0 ? `${info.code} ${info.msg}` : info?.msg || detail);
    });
    flv.on(mpegts.Events.LOADING_COMPLETE, () => lost(""));
    flv.attachMediaElement(video);
    flv.load();
    return { end: () => flv.destroy(), behind: () => buffered(video) };
  },

  async hls(video, url, lost) {
    if (hasMediaSource && !window.Hls) await load("page/hls.light-1.7.4.js");
    if (!window.Hls?.isSupported()) return native(video, url, lost);
    // No worker: the page's Content-Security-Policy allows none.
    const hls = new Hls({ enableWorker: false, lowLatencyMode: true, backBufferLength: 30 });
    hls.on(Hls.Events.ERROR, (event, error) => {
      if (error.fatal) lost(`${error.response?.code || ""} ${error.details}`.trim());
    });
    hls.loadSource(url);
    hls.attachMedia(video);
    return { end: () => hls.destroy(), behind: () => hls.latency };
  },
};

// The browser's own HLS.
function native(video, url, lost) {
  const failed = () => lost(video.error?.message || "error");
  video.addEventListener("error", failed);
  video.src = url;
  const end = () => {
    video.removeEventListener("error", failed);
    video.removeAttribute("src");
    video.load();
  };
  return { end, behind: () => buffered(video) };
}

function buffered(video) {
  const ranges = video.buffered;
  return ranges.length ? Math.max(0, ranges.end(ranges.length - 1) - video.currentTime) : 0;
}

export class Player {
  #playing = null;
  #attempt = null;

  // `report` is told the state, `connecting`, `playing`, `ended` or `failed`, and why.
  constructor(video, report) {
    this.video = video;
    this.report = report;
    video.addEventListener("timeupdate", () => {
      if (this.#attempt && video.currentTime > 0) this.report("playing", "");
    });
  }

  async play(way, url) {
    this.stop();
    const attempt = {};
    this.#attempt = attempt;
    this.report("connecting", "");
    const lost = reason => {
      if (this.#attempt !== attempt) return;
      this.stop();
      this.report(reason ? "failed" : "ended", reason);
    };
    try {
      const playing = await players[way](this.video, url, lost);
      if (this.#attempt !== attempt) return playing.end();
      this.#playing = playing;
      await this.video.play();
    } catch (error) {
      // A play that was given up is no error.
      if (error.name !== "AbortError") lost(error.message);
    }
  }

  stop() {
    this.#attempt = null;
    this.#playing?.end();
    this.#playing = null;
  }

  // Seconds between what is shown and the newest that can be played.
  behind() {
    return this.#playing?.behind() ?? 0;
  }
}
