// The page of an origin or an edge, over its HTTP API.
import {
  $, Events, Spark, addWords, ask, badge, bytes, confirmed, el, heading, poll, put, rate, row,
  say, seconds, start, sync, t,
} from "./common.js";
import { Player, ways } from "./player.js";

addWords({
  "origin": ["origin", "源站"], "edge": ["edge", "边缘"],
  "close": ["Close", "关闭"], "play": ["Play", "播放"], "connections": ["Connections", "连接"],
  "figure.streams": ["Streams", "直播流"], "figure.viewers": ["Viewers", "观众"],
  "figure.in": ["In", "流入"], "figure.out": ["Out", "流出"],
  "figure.cpu": ["CPU, of one core", "CPU（单核）"], "figure.memory": ["Memory", "内存"],
  "known": ["{0} known, {1} connections", "共 {0} 路，{1} 个连接"],
  "memory.logs": ["streams: {0} of {1}", "流缓存：{0} / {1}"],
  "streams": ["Streams", "直播流"], "filter": ["Filter", "筛选"],
  "no.streams": ["Nobody publishes, and nobody waits for a stream.", "暂无推流，也没有等待中的观众。"],
  "more.streams": ["The first {0} are shown.", "仅显示前 {0} 路。"],
  "column.stream": ["Stream", "流"], "column.state": ["State", "状态"],
  "column.media": ["Media", "编码"], "column.rate": ["Rate", "码率"],
  "column.viewers": ["Viewers", "观众"], "column.age": ["Age", "时长"],
  "column.lag": ["Lag", "延迟"], "column.actions": ["", ""],
  "column.address": ["Address", "地址"], "column.protocol": ["Protocol", "协议"],
  "column.skips": ["Skips", "跳帧"], "column.verdict": ["Held up by", "瓶颈"],
  "column.connection": ["Connection", "连接"],
  "state.live": ["live", "直播中"], "state.waiting": ["no publisher", "无推流"],
  "pull.connecting": ["connecting", "连接中"], "pull.asking": ["asking", "请求中"],
  "pull.flowing": ["live", "直播中"], "pull.lingering": ["no viewers", "无观众"],
  "pull.pausing": ["origins failed", "源站失败"], "pull.finished": ["ended", "已结束"],
  "from": ["from {0}", "来自 {0}"], "from.aligned": ["from {0}, aligned", "来自 {0}，内容一致"],
  "hls.of": ["{0} by HLS", "HLS {0}"],
  "player.by": ["Protocol", "协议"],
  "player.parameters": ["Parameters, such as a signature: txSecret=…&txTime=…", "参数，例如防盗链签名：txSecret=…&txTime=…"],
  "by.flv": ["HTTP-FLV", "HTTP-FLV"], "by.hls": ["HLS", "HLS"],
  "player.connecting": ["Connecting …", "连接中…"], "player.playing": ["{0}×{1}, {2} s behind", "{0}×{1}，落后 {2} 秒"],
  "player.ended": ["The stream has ended.", "直播已结束。"], "player.failed": ["Cannot play: {0}", "无法播放：{0}"],
  "player.nowhere": ["This vhost's streams are not served over HTTP (http_server with http_remux or hls).", "该 vhost 未开启 HTTP 播放（http_server 及 http_remux 或 hls）。"],
  "player.crossdomain": ["http_server has `crossdomain off`: this page may not play from it.", "http_server 设置了 crossdomain off：本页面无法播放。"],
  "connections.of": ["Connections of {0}", "{0} 的连接"],
  "no.clients": ["None.", "无。"], "more.clients": ["The first {0} are shown.", "仅显示前 {0} 个。"],
  "type.play": ["plays", "播放"], "type.wait": ["waits", "等待"], "type.publish": ["publishes", "推流"],
  "type.standby": ["stands by", "备用推流"], "type.idle": ["idle", "空闲"],
  "relay": ["edge", "边缘"], "relays": ["Edges, and what they carry", "边缘节点及其承载的流"],
  "slowest": ["Slowest viewers", "最慢的观众"], "slowest.ask": ["Look now", "立即查看"],
  "slowest.note": ["Asks the kernel about the connections of those furthest behind, and tells what holds them up: the network, the player or this server.", "查询落后最多的观众的 TCP 状态，判断瓶颈在网络、播放器还是本服务器。"],
  "slowest.none": ["Nobody plays.", "没有观众。"],
  "verdict.network": ["network", "网络"], "verdict.player": ["player", "播放器"],
  "verdict.server": ["server", "服务器"], "verdict.none": ["not behind", "正常"],
  "tcp": ["RTT {0} ms, {1} unsent, {2} sent again", "RTT {0} 毫秒，未发送 {1}，重传 {2}"],
  "dismiss": ["Dismiss", "断开"], "dismiss.ask": ["End the connection of {0}? A player usually connects again.", "断开 {0} 的连接？播放器通常会重新连接。"],
  "dismissed": ["{0} is dismissed.", "已断开 {0}。"], "gone": ["It has gone already.", "该连接已经不在。"],
  "kind.publish": ["publish", "开始推流"], "kind.unpublish": ["unpublish", "推流结束"],
  "kind.refused": ["refused", "拒绝"], "kind.pull": ["pull", "回源成功"],
  "kind.pull-failed": ["pull failed", "回源失败"], "kind.pull-ended": ["pull ended", "回源结束"],
  "kind.forward-failed": ["forward failed", "转推失败"], "kind.reload": ["reload", "重新加载"],
  "kind.reload-failed": ["reload failed", "加载失败"], "kind.certificate": ["certificate", "证书更新"],
  "kind.certificate-failed": ["certificate failed", "证书错误"], "kind.drain": ["drain", "排空"],
  "kind.dismiss": ["dismiss", "断开"], "kind.upgrade": ["upgrade", "升级"],
  "kind.upgrade-failed": ["upgrade failed", "升级失败"],
});

// The most that is asked for at once.
const MAX_STREAMS = 300;
const MAX_CLIENTS = 50;
const SLOWEST = 20;
// How long settings are taken for those in force.
const LEARN_MS = 30000;

const TONES = {
  "publish": "good", "pull": "good", "certificate": "good", "reload": "good",
  "refused": "warn", "pull-failed": "warn", "forward-failed": "bad", "drain": "warn",
  "reload-failed": "bad", "certificate-failed": "bad", "upgrade": "good", "upgrade-failed": "bad",
};
const PULL_TONES = { flowing: "good", lingering: "", pausing: "bad" };

const COLUMNS = {
  streams: [["stream"], ["state"], ["media"], ["rate", "number"], ["viewers", "number"],
    ["age", "number"], ["lag", "number"], ["actions", "actions"]],
  clients: [["address"], ["protocol"], ["state"], ["rate", "number"], ["age", "number"],
    ["skips", "number"], ["actions", "actions"]],
  relays: [["address"], ["stream"], ["rate", "number"], ["age", "number"]],
  slowest: [["address"], ["stream"], ["lag", "number"], ["verdict"], ["connection"], ["actions", "actions"]],
};

// What the server says of itself, and its vhosts by name.
let server = null;
let learnt = 0;
let vhosts = {};
let summaries = null;
let streams = [];
let clients = [];
let relays = [];
let slowest = null;
// The id of the stream whose viewers are shown, and the stream that is played.
let open = null;
let played = null;

const sparks = Object.fromEntries(["viewers", "in", "out", "cpu"].map(id => [id, new Spark($(`${id}-line`))]));
const events = new Events($("events"), describe);
const player = new Player(document.querySelector("video"), onPlayer);
let playing = ["", ""];

// A stream's name, with its vhost where that is not the default one.
function nameOf({ vhost, app, name }) {
  const path = `${app}/${name}`;
  return vhost && vhost !== "__defaultVhost__" ? `${vhost}/${path}` : path;
}

function describe(event) {
  const parts = [event.stream, event.ip, event.text];
  const count = event.count > 1 ? ` ×${event.count}` : "";
  return {
    label: t(`kind.${event.kind}`),
    tone: TONES[event.kind] ?? "",
    text: parts.filter(Boolean).join(" · ") + count,
  };
}

// --- What is asked ---

async function look() {
  if (Date.now() - learnt > LEARN_MS) await learn();
  const wanted = [
    ask("api/v1/summaries"),
    ask(`api/v1/streams?count=${MAX_STREAMS}`),
    ask(`api/v1/clients?relay=true&count=${MAX_CLIENTS}`),
    open === null ? { clients: [] } : ask(`api/v1/clients?stream=${open}&count=${MAX_CLIENTS}`),
    events.look(),
  ];
  const answers = await Promise.all(wanted);
  summaries = answers[0].data;
  streams = answers[1].streams.sort((one, other) => other.clients - one.clients || one.id - other.id);
  relays = answers[2].clients;
  clients = answers[3].clients;
  const sum = direction => streams.reduce((kbps, stream) => kbps + stream.kbps[direction], 0);
  sparks.viewers.add(summaries.players);
  sparks.in.add(sum("recv_30s"));
  sparks.out.add(sum("send_30s"));
  sparks.cpu.add(summaries.self.cpu_percent * 100);
  show();
}

// The settings that the page needs; a reload may change them.
async function learn() {
  const [raw, answer] = await Promise.all([ask("api/v1/raw?rpc=raw"), ask("api/v1/vhosts")]);
  vhosts = Object.fromEntries(answer.vhosts.map(vhost => [vhost.name, vhost.settings]));
  server = raw;
  learnt = Date.now();
}

// --- What is shown ---

function show() {
  if (!summaries) return;
  const { self } = summaries;
  put($("name"), `Millrace ${t(summaries.role)}`);
  document.title = `${location.hostname} – Millrace ${t(summaries.role)}`;
  put($("about"), `${location.host} · ${self.version} · ${t("uptime", seconds(summaries.uptime_s))}`);
  put($("streams-count"), summaries.published);
  put($("streams-more"), t("known", summaries.streams, summaries.connections));
  put($("viewers"), streams.length < summaries.streams ? summaries.players
    : streams.reduce((count, stream) => count + stream.clients, 0));
  put($("in"), rate(sparks.in.values.at(-1) ?? 0));
  put($("out"), rate(sparks.out.values.at(-1) ?? 0));
  put($("cpu"), `${Math.round(self.cpu_percent * 100)} %`);
  put($("memory"), bytes(self.mem_kbyte * 1024));
  put($("memory-more"), t("memory.logs", bytes(summaries.log_bytes), bytes(summaries.log_limit)));
  showStreams();
  showClients();
  showRelays();
  showSlowest();
}

function showStreams() {
  const filter = $("filter").value.trim().toLowerCase();
  const shown = streams.filter(stream => nameOf(stream).toLowerCase().includes(filter));
  sync($("streams").tBodies[0], shown, stream => stream.id, makeStream, fillStream);
  $("streams").hidden = !shown.length;
  $("no-streams").hidden = streams.length > 0;
  $("more-streams").hidden = summaries.streams <= streams.length;
  put($("more-streams"), t("more.streams", streams.length));
}

function makeStream(stream) {
  const made = row(COLUMNS.streams);
  made.name = el("button", { className: "link", onclick: () => watch(made.stream) });
  made.state = el("span");
  made.origin = el("span", { className: "sub" });
  made.video = el("span");
  made.audio = el("span", { className: "sub" });
  made.hls = el("span", { className: "sub" });
  made.count = el("span");
  made.play = el("button", { className: "main", textContent: t("play"), onclick: () => watch(made.stream) });
  made.list = el("button", { textContent: t("connections"), onclick: () => openViewers(made.stream) });
  const { cells } = made;
  cells.stream.append(made.name);
  cells.state.append(made.state, made.origin);
  cells.media.append(made.video, made.audio);
  cells.viewers.append(made.count, made.hls);
  cells.actions.append(made.list, made.play);
  return made;
}

function fillStream(made, stream) {
  made.stream = stream;
  const { cells } = made;
  const { video, audio, publish, pull, pulls = [] } = stream;
  put(made.name, nameOf(stream));
  if (pull) badge(made.state, t(`pull.${pull.state}`), PULL_TONES[pull.state] ?? "warn");
  else badge(made.state, t(publish.active ? "state.live" : "state.waiting"), publish.active ? "good" : "warn");
  const origins = pulls.map(({ origin }) => origin).join(" + ") || pull?.origin;
  put(made.origin, pull ? t(pull.aligned ? "from.aligned" : "from", origins) : "");
  const size = video?.width ? ` ${video.width}×${video.height}` : "";
  put(made.video, video ? `${video.codec}${size}` : "–");
  put(made.audio, audio ? `${audio.codec} ${audio.sample_rate / 1000} kHz` : "");
  put(cells.rate, rate(stream.kbps.recv_30s));
  put(made.count, stream.clients);
  put(made.hls, stream.hls_clients ? t("hls.of", stream.hls_clients) : "");
  put(cells.age, publish.alive === null ? "–" : seconds(publish.alive));
  put(cells.lag, stream.lag_ms ? `${(stream.lag_ms / 1000).toFixed(1)} s` : "0 s");
  made.node.classList.toggle("open", stream.id === open || stream.id === played?.id);
}

function openViewers(stream) {
  open = stream.id;
  clients = [];
  put($("viewers-of-name"), t("connections.of", nameOf(stream)));
  $("viewers-of").hidden = false;
  $("viewers-of").scrollIntoView({ block: "nearest", behavior: "smooth" });
  lookNow();
}

function showClients() {
  const stream = streams.find(stream => stream.id === open);
  if (open !== null && !stream) closeViewers();
  if (stream) put($("viewers-of-name"), t("connections.of", nameOf(stream)));
  sync($("clients").tBodies[0], clients, client => client.id, makeClient(COLUMNS.clients), fillClient);
  $("clients").hidden = !clients.length;
  $("no-clients").hidden = clients.length > 0;
  $("more-clients").hidden = clients.length < MAX_CLIENTS;
  put($("more-clients"), t("more.clients", clients.length));
}

function closeViewers() {
  open = null;
  $("viewers-of").hidden = true;
}

const makeClient = columns => () => {
  const made = row(columns);
  // Without `auth`, whoever reaches the page could end any connection by a click.
  if (server?.http_api.auth.enabled && made.cells.actions) {
    const dismissal = () => dismiss(made.client);
    made.cells.actions.append(el("button", { className: "danger", textContent: t("dismiss"), onclick: dismissal }));
  }
  return made;
};

function addressOf({ ip, port }) {
  return ip.includes(":") ? `[${ip}]:${port}` : `${ip}:${port}`;
}

function fillClient(made, client) {
  made.client = client;
  const { cells } = made;
  put(cells.address, addressOf(client));
  const tls = client.tls ? " · TLS" : "";
  if (cells.protocol) put(cells.protocol, `${client.protocol}${tls}${client.relay ? ` · ${t("relay")}` : ""}`);
  if (cells.state) put(cells.state, t(`type.${client.type}`));
  if (cells.stream) put(cells.stream, nameOf(client));
  if (cells.rate) put(cells.rate, rate(client.kbps[client.publish ? "recv_30s" : "send_30s"]));
  if (cells.age) put(cells.age, seconds(client.alive));
  if (cells.skips) put(cells.skips, client.skips);
}

function showRelays() {
  const carrying = relays.filter(relay => relay.type !== "idle");
  $("relays-panel").hidden = !carrying.length;
  sync($("relays").tBodies[0], carrying, relay => relay.id, makeClient(COLUMNS.relays), fillClient);
}

async function askSlowest() {
  try {
    slowest = (await ask(`api/v1/clients?slowest=${SLOWEST}`)).clients;
    showSlowest();
  } catch (error) {
    say(t("refused", error.message), true);
  }
}

function showSlowest() {
  if (!slowest) return;
  sync($("slowest").tBodies[0], slowest, client => client.id, makeClient(COLUMNS.slowest), fillSlow);
  $("slowest").hidden = !slowest.length;
  put($("slowest-note"), slowest.length ? "" : t("slowest.none"));
  $("slowest-note").hidden = slowest.length > 0;
}

function fillSlow(made, client) {
  fillClient(made, client);
  const { cells } = made;
  put(cells.lag, `${(client.lag_ms / 1000).toFixed(1)} s`);
  made.verdict ??= cells.verdict.appendChild(el("span"));
  badge(made.verdict, t(`verdict.${client.verdict ?? "none"}`), client.verdict ? "warn" : "good");
  // A request by HTTP/2 shares its connection with others: it has no figures of its own.
  const { tcp } = client;
  const figures = tcp && t("tcp", tcp.rtt_ms.toFixed(1), bytes(tcp.unsent_bytes), tcp.retransmits);
  put(cells.connection, figures ?? "–");
}

async function dismiss(client) {
  const name = addressOf(client);
  if (!await confirmed(t("dismiss.ask", name), t("dismiss"))) return;
  try {
    const answer = await ask(`api/v1/clients/${client.id}`, { method: "DELETE" });
    say(answer.code === 0 ? t("dismissed", name) : t("gone"));
  } catch (error) {
    say(t("refused", error.message), true);
  }
  lookNow();
}

// --- Playing ---

// Where a stream can be played from: by way its URL.
function urlsOf(stream) {
  const { http_server: http } = server;
  const secure = location.protocol === "https:" || !http.listen.length;
  const listen = (secure ? http.https.listen : http.listen)[0];
  const settings = vhosts[stream.vhost];
  if (!listen || !settings) return {};
  const port = listen.slice(listen.lastIndexOf(":") + 1);
  const address = listen.slice(0, -port.length - 1);
  const host = ["0.0.0.0", "[::]"].includes(address) ? location.hostname : address;
  const base = `${secure ? "https" : "http"}://${host}:${port}`;
  const encoded = text => text.split("/").map(encodeURIComponent).join("/");
  const parts = { "[vhost]": "", "[app]": encoded(stream.app), "[stream]": encoded(stream.name) };
  const at = template => base + template.replace(/\[\w+\]/g, part => parts[part]);
  const urls = {};
  if (settings.http_remux.enabled) urls.flv = at(settings.http_remux.mount);
  if (settings.hls.enabled) urls.hls = at(settings.hls.location);
  return Object.fromEntries(Object.entries(urls).filter(([way]) => ways.includes(way)));
}

function watch(stream) {
  played = stream;
  put($("player-name"), nameOf(stream));
  $("player").hidden = false;
  const options = Object.keys(urlsOf(stream)).map(way => el("option", { value: way, textContent: t(`by.${way}`) }));
  const { value } = $("player-by");
  $("player-by").replaceChildren(...options);
  if (options.some(option => option.value === value)) $("player-by").value = value;
  $("player").scrollIntoView({ block: "start", behavior: "smooth" });
  play();
  showStreams();
}

function play() {
  const urls = urlsOf(played);
  const url = urls[$("player-by").value];
  if (!url) return onPlayer("nowhere", "");
  if (!server.http_server.crossdomain) return onPlayer("crossdomain", "");
  const parameters = new URLSearchParams($("player-parameters").value);
  if (played.vhost !== "__defaultVhost__") parameters.set("vhost", played.vhost);
  const query = parameters.toString();
  player.play($("player-by").value, query ? `${url}?${query}` : url);
}

function onPlayer(state, why) {
  playing = [state, why];
  showPlayer();
}

function showPlayer() {
  const [state, why] = playing;
  const { video } = player ?? {};
  if (!state || !video) return;
  document.body.dataset.state = state;
  put($("status"), state === "playing"
    ? t("player.playing", video.videoWidth, video.videoHeight, player.behind().toFixed(1)) : t(`player.${state}`, why));
}

function closePlayer() {
  player.stop();
  played = null;
  playing = ["", ""];
  delete document.body.dataset.state;
  $("player").hidden = true;
  if (summaries) showStreams();
}

// --- Start ---

$("filter").addEventListener("input", () => summaries && showStreams());
$("viewers-close").addEventListener("click", closeViewers);
$("player-close").addEventListener("click", closePlayer);
$("player-again").addEventListener("click", play);
$("player-by").addEventListener("change", play);
$("slowest-ask").addEventListener("click", askSlowest);
start(() => {
  for (const [id, columns] of Object.entries(COLUMNS)) heading($(id), columns);
  for (const option of $("player-by").options) option.textContent = t(`by.${option.value}`);
  show();
  events.show();
  showPlayer();
});
const lookNow = poll(look);
