// The page of a director's agent, over its HTTP API.
import {
  $, Events, Spark, addWords, ask, badge, confirmed, el, heading, number, poll, put, rate, row,
  say, start, sync, t,
} from "./common.js";

addWords({
  "director": ["director", "调度机"], "version": ["version {0}", "版本 {0}"],
  "figure.servers": ["Real servers up", "可用真实服务器"], "figure.active": ["Connections", "连接数"],
  "figure.new": ["New connections", "新建连接"], "figure.packets": ["Packets in", "入站包"],
  "figure.bits": ["Bits in", "入站流量"], "per.second": ["{0} /s", "{0} /秒"],
  "services.count": ["{0} virtual services", "{0} 个虚拟服务"],
  "addresses": ["Virtual routers and addresses (VRRP)", "虚拟路由器与虚拟地址（VRRP）"],
  "no.services": ["No virtual service is configured.", "未配置虚拟服务。"],
  "verdicts": ["What became of packets", "数据包处理结果"], "interfaces": ["Interfaces", "网络接口"],
  "column.instance": ["Instance", "实例"], "column.state": ["State", "状态"],
  "column.address": ["Address", "地址"], "column.interface": ["Interface", "接口"],
  "column.cause": ["Why", "原因"], "column.server": ["Real server", "真实服务器"],
  "column.weight": ["Weight", "权重"], "column.active": ["Active", "活动"],
  "column.inactive": ["Inactive", "非活动"], "column.persistent": ["Persistent", "会话保持"],
  "column.new": ["New", "新建"], "column.bits": ["In", "流入"], "column.reset": ["Reset", "已重置"],
  "column.actions": ["", ""], "column.reason": ["Verdict", "结果"], "column.meaning": ["Meaning", "含义"],
  "column.packets": ["Packets", "包数"], "column.mode": ["XDP mode", "XDP 模式"],
  "state.master": ["master", "主"], "state.backup": ["backup", "备"], "state.fault": ["fault", "故障"],
  "state.init": ["init", "初始化"],
  "state.up": ["up", "正常"], "state.down": ["down", "故障"], "state.quiesced": ["quiesced", "不接新连接"],
  "state.full": ["full", "已满"], "state.no-mac": ["no MAC", "无 MAC"],
  "state.disabled": ["disabled", "已禁用"], "state.standby": ["standby", "备用"],
  "sorry": ["sorry server", "sorry server"], "quorum": ["quorum", "quorum 达到"], "quorum.lost": ["quorum lost", "quorum 未达到"],
  "order.drained": ["drained by the operator", "已由管理员排空"],
  "order.drained-of-templates": ["drained by the operator, persistence too", "已由管理员排空（含会话保持）"],
  "order.disabled": ["disabled by the operator", "已由管理员禁用"],
  "order.weight": ["weight {0} by the operator", "管理员设置权重 {0}"],
  "drain": ["Drain", "排空"], "weight": ["Weight …", "权重…"], "set": ["Set", "设置"], "undrain": ["As configured", "撤销指令"],
  "drain.ask": ["Give {0} no new connections, in any service? Those it has stay.", "不再向 {0} 分配新连接（所有服务）？现有连接保留。"],
  "weight.ask": ["Weight of {0} in all services, 0 to 65535:", "{0} 在所有服务中的权重（0–65535）："],
  "load": ["sends {0} of {1}", "发送 {0} / {1}"], "load.unknown": ["sends {0}, capacity unknown", "发送 {0}，容量未知"],
  "load.stale": ["load not known at present", "负载信息已过期"], "load.weight": ["of 1000, by load", "/1000（按负载）"],
  "weight.wrong": ["A weight is a number from 0 to 65535.", "权重必须是 0 到 65535 的整数。"],
  "undrain.ask": ["Give {0} its configured share again?", "撤销对 {0} 的指令，恢复配置的权重？"],
  "ordered": ["Done: {0}", "已完成：{0}"], "nothing.changed": ["nothing has changed", "没有变化"],
  "detached": ["not attached: {0}", "未挂载：{0}"],
  "kind.server": ["server", "服务器"], "kind.reset": ["reset", "重置连接"],
  "kind.order": ["order", "指令"], "kind.quorum": ["quorum", "quorum"],
  "kind.path": ["path", "路径"], "kind.vrrp": ["VRRP", "VRRP"], "kind.agent": ["agent", "代理进程"],
});

const SERVER_TONES = { up: "good", down: "bad", "no-mac": "bad", quiesced: "warn", full: "warn", disabled: "warn" };
const ROUTER_TONES = { master: "good", fault: "bad" };
const MAX_WEIGHT = 65535;

const SERVER_COLUMNS = [["server"], ["state"], ["weight", "number"], ["active", "number"],
  ["inactive", "number"], ["persistent", "number"], ["new", "number"], ["bits", "number"],
  ["reset", "number"], ["actions", "actions"]];
const COLUMNS = {
  addresses: [["instance"], ["state"], ["address"], ["interface"], ["cause"]],
  reasons: [["reason"], ["meaning"], ["packets", "number"]],
  interfaces: [["interface"], ["mode"], ["cause"]],
};

let agent = null;
let listing = null;
const sparks = Object.fromEntries(["active", "new", "packets", "bits"].map(id => [id, new Spark($(`${id}-line`))]));
const events = new Events($("events"), event => ({
  label: t(`kind.${event.kind}`),
  tone: event.warning ? "warn" : "",
  text: event.message,
}));

async function look() {
  const [about, answer] = await Promise.all([ask("api/v1/agent"), ask("api/v1/services"), events.look()]);
  agent = about;
  listing = answer;
  const servers = allServers();
  const sum = (list, value) => list.reduce((total, it) => total + (value(it) ?? 0), 0);
  sparks.active.add(sum(servers, server => server.active_connections));
  sparks.new.add(sum(listing.services, service => service.rates?.connections_per_s));
  sparks.packets.add(sum(listing.services, service => service.rates?.packets_per_s));
  sparks.bits.add(sum(listing.services, service => service.rates?.bits_per_s));
  show();
}

function allServers() {
  return listing.services.flatMap(service => service.servers);
}

function show() {
  if (!listing) return;
  put($("name"), `Millrace ${t("director")}`);
  document.title = `${agent.hostname} – Millrace ${t("director")}`;
  put($("about"), `${agent.hostname} · ${t("version", agent.version)}`);
  const servers = allServers().filter(server => !server.sorry);
  const up = servers.filter(server => server.state === "up");
  put($("servers-count"), `${up.length} / ${servers.length}`);
  put($("servers-more"), t("services.count", listing.services.length));
  const newest = id => sparks[id].values.at(-1) ?? 0;
  put($("active"), number(newest("active")));
  put($("new"), t("per.second", newest("new").toFixed(1)));
  put($("packets"), t("per.second", number(Math.round(newest("packets")))));
  put($("bits"), rate(newest("bits") / 1000));
  const warnings = [listing.refused, listing.not_upgraded, ...listing.doubts].filter(Boolean);
  sync($("warnings"), warnings, it => it, it => ({ node: el("p", { className: "warning", textContent: it }) }), () => {});
  showRouters();
  sync($("services"), listing.services, keyOf, makeService, fillService);
  $("no-services").hidden = listing.services.length > 0;
  const reasons = listing.reasons.filter(reason => reason.packets > 0).sort((one, other) => other.packets - one.packets);
  sync($("reasons").tBodies[0], reasons, reason => reason.name, () => row(COLUMNS.reasons), ({ cells }, reason) => {
    put(cells.reason, reason.name);
    put(cells.meaning, reason.description);
    put(cells.packets, number(reason.packets));
  });
  sync($("interfaces").tBodies[0], listing.interfaces, it => it.index, () => row(COLUMNS.interfaces), ({ cells }, it) => {
    put(cells.interface, it.name);
    put(cells.mode, it.xdp_mode);
    put(cells.cause, it.lost ? t("detached", it.lost) : it.native_refused ?? "");
  });
}

function showRouters() {
  $("addresses-panel").hidden = !listing.virtual_addresses.length;
  const make = () => {
    const made = row(COLUMNS.addresses);
    made.state = made.cells.state.appendChild(el("span"));
    return made;
  };
  sync($("addresses").tBodies[0], listing.virtual_addresses, it => `${it.instance} ${it.address}`, make, (made, it) => {
    const { cells } = made;
    put(cells.instance, it.instance);
    badge(made.state, t(`state.${it.state}`), ROUTER_TONES[it.state]);
    put(cells.address, it.address);
    put(cells.interface, it.interface);
    put(cells.cause, it.cause);
  });
}

function keyOf(service) {
  return `${service.protocol} ${service.address}`;
}

function makeService(service) {
  const quorum = el("span");
  const more = el("p", { className: "note" });
  const table = el("table", {}, el("thead"), el("tbody"));
  heading(table, SERVER_COLUMNS);
  const title = el("h2", { textContent: keyOf(service) });
  const node = el("section", { className: "panel" }, el("div", { className: "head" }, title, quorum), more, table);
  return { node, quorum, more, table };
}

function fillService({ quorum, more, table }, service) {
  badge(quorum, t(service.quorum ? "quorum" : "quorum.lost"), service.quorum ? "good" : "bad");
  const { persistence, rates } = service;
  const sticky = persistence ? ` persistent ${persistence.timeout_s}` : "";
  const now = rates ? ` · ${t("per.second", rates.connections_per_s)} · ${rate(rates.bits_per_s / 1000)}` : "";
  put(more, `${service.scheduler}${sticky}${service.ops ? " ops" : ""}${now}`);
  sync(table.tBodies[0], service.servers, server => server.address, makeServer, fillServer);
}

function makeServer(server) {
  const made = row(SERVER_COLUMNS);
  const { cells } = made;
  made.state = cells.state.appendChild(el("span"));
  made.reason = cells.state.appendChild(el("span", { className: "sub" }));
  made.weight = cells.weight.appendChild(el("span"));
  made.weighed = cells.weight.appendChild(el("span", { className: "sub" }));
  made.address = cells.server.appendChild(el("b"));
  made.path = cells.server.appendChild(el("span", { className: "sub" }));
  made.load = cells.server.appendChild(el("span", { className: "sub" }));
  if (agent.orders) {
    made.undrain = el("button", { textContent: t("undrain"), onclick: () => undrain(server.address) });
    made.drain = el("button", { className: "danger", textContent: t("drain"), onclick: () => drain(server.address) });
    const weigh = el("button", { textContent: t("weight"), onclick: () => setWeight(made.server) });
    cells.actions.append(made.undrain, weigh, made.drain);
  }
  return made;
}

function fillServer(made, server) {
  made.server = server;
  const { cells } = made;
  put(made.address, server.address);
  const path = [server.mac, server.interface, server.sorry ? t("sorry") : null];
  put(made.path, path.filter(Boolean).join(" · "));
  badge(made.state, t(`state.${server.state}`), SERVER_TONES[server.state]);
  // A reason that only repeats the order is left out.
  const repeats = server.order && ["quiesced", "disabled"].includes(server.state);
  const why = [server.order && orderText(server.order), repeats ? null : server.reason];
  put(made.reason, why.filter(Boolean).join(" · "));
  const byLoad = server.weight > 0 && server.load && server.load.weight !== null;
  put(made.weight, byLoad ? server.load.weight : server.weight);
  put(made.weighed, byLoad ? t("load.weight") : "");
  put(made.load, server.load ? loadText(server.load) : "");
  put(cells.active, server.active_connections);
  put(cells.inactive, server.inactive_connections);
  put(cells.persistent, server.persistent_clients);
  put(cells.new, server.rates ? t("per.second", server.rates.connections_per_s) : "–");
  put(cells.bits, server.rates ? rate(server.rates.bits_per_s / 1000) : "–");
  put(cells.reset, server.connections_reset);
  if (!made.drain) return;
  made.undrain.hidden = !server.order;
  made.drain.hidden = Boolean(server.order);
}

function loadText(load) {
  if (!load.fresh) return t("load.stale");
  const used = rate(load.used / 1000);
  return load.limit === null ? t("load.unknown", used) : t("load", used, rate(load.limit / 1000));
}

function orderText(order) {
  return typeof order === "string" ? t(`order.${order}`) : t("order.weight", order.weight);
}

// --- Orders ---

async function drain(server) {
  if (await confirmed(t("drain.ask", server), t("drain"))) give(server, "drained");
}

async function undrain(server) {
  if (await confirmed(t("undrain.ask", server), t("undrain"))) give(server, null);
}

async function setWeight(server) {
  const text = await confirmed(t("weight.ask", server.address), t("set"), String(server.weight));
  if (text === false) return;
  const weight = Number(text);
  if (text.trim() === "" || !Number.isInteger(weight) || weight < 0 || weight > MAX_WEIGHT) return say(t("weight.wrong"), true);
  give(server.address, { weight });
}

async function give(server, order) {
  try {
    const { done } = await ask("api/v1/orders", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ server, order }),
    });
    say(t("ordered", done.join("; ") || t("nothing.changed")));
  } catch (error) {
    say(t("refused", error.message), true);
  }
  lookNow();
}

// --- Start ---

start(() => {
  for (const [id, columns] of Object.entries(COLUMNS)) heading($(id), columns);
  // Services hold tables of their own.
  sync($("services"), [], keyOf, makeService, fillService);
  show();
  events.show();
});
const lookNow = poll(look);
