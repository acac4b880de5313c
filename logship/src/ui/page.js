// The page: asks for lines and shows them. It holds a bounded number of them, and makes no markup of anything.
"use strict";

const LINES_HELD_MAX = 3000;
const PAGE_LINES = 200;
const LOOK_EVERY_MS = 2000;
const SEARCH_PAUSE_MS = 250;
const COLOURS = 10;

const $ = (id) => document.getElementById(id);
const list = $("list");
const view = $("lines");

const make = (name, className, text) => {
    const made = document.createElement(name);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
};

// What is asked for.
const wanted = { sources: new Set(), q: "", regex: false, exact: false, level: "", stream: "" };
// Ids of the lines that are shown.
let shown = new Set();
// Lines come by themselves.
let isLive = true;
// The list stays at its end as lines come.
let isFollowing = true;
let unseen = 0;
let stream = null;
// Lines that came while those before them were being asked for.
let early = null;
let generation = 0;
let known = { sources: [], sinks: [], gaps: [] };

const number = (value) => value.toLocaleString("en");
const bytes = (value) => {
    const units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let at = 0;
    while (value >= 1024 && at < units.length - 1) {
        value /= 1024;
        at++;
    }
    return `${at === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[at]}`;
};
const plural = (count, one, many) => `${number(count)} ${count === 1 ? one : many}`;
const span = (seconds) => {
    if (seconds < 1) return `${Math.max(0, Math.round(seconds * 1000))} ms`;
    if (seconds < 120) return `${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)} s`;
    if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
    if (seconds < 172800) return `${Math.round(seconds / 3600)} h`;
    return `${Math.round(seconds / 86400)} days`;
};
const two = (value) => String(value).padStart(2, "0");
// Times of lines have nanoseconds; the zone is that of the browser.
const clock = (text) => {
    const time = new Date(text);
    return `${two(time.getHours())}:${two(time.getMinutes())}:${two(time.getSeconds())}.${text.slice(20, 23)}`;
};
const day = (text) => {
    const time = new Date(text);
    return `${time.getFullYear()}-${two(time.getMonth() + 1)}-${two(time.getDate())}`;
};

const query = (more = {}) => {
    const asked = new URLSearchParams();
    for (const source of wanted.sources) asked.append("source", source);
    for (const level of wanted.level.split(",").filter(Boolean)) asked.append("level", level);
    if (wanted.stream) asked.append("stream", wanted.stream);
    if (wanted.q) asked.append("q", wanted.q);
    if (wanted.q && wanted.regex) asked.append("regex", "1");
    if (wanted.q && wanted.exact) asked.append("case", "1");
    for (const [name, value] of Object.entries(more)) asked.append(name, value);
    return asked.toString();
};

const ask = async (path) => {
    const answer = await fetch(path, { credentials: "same-origin", redirect: "error" });
    if (answer.status === 401) {
        location.assign("/login");
        throw new Error("log in again");
    }
    if (!answer.ok) {
        let sentence = `the server answered ${answer.status}`;
        try {
            sentence = (await answer.json()).error;
        } catch {
            // It is no sentence of ours.
        }
        throw new Error(sentence);
    }
    return answer;
};

const complain = (sentence) => {
    $("fault").textContent = sentence ?? "";
    $("fault").hidden = !sentence;
};
const notice = (sentences) => {
    $("notices").replaceChildren(...sentences.map((sentence) => make("p", "", sentence)));
};

// What is marked in lines; the search itself is the server's, and its patterns are a little different.
let marks = null;
const readMarks = () => {
    marks = null;
    if (!wanted.q) return;
    const text = wanted.regex ? wanted.q : wanted.q.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
    // A pattern that takes exponential time here would stop the page: only plain texts are marked then.
    if (wanted.regex && /[+*}]/.test(text)) return;
    try {
        marks = new RegExp(text, wanted.exact ? "gu" : "giu");
    } catch {
        // It is one for the server only.
    }
};

const colourOf = (name) => {
    let hash = 7;
    for (let at = 0; at < name.length; at++) hash = (hash * 31 + name.charCodeAt(at)) >>> 0;
    return hash % COLOURS;
};
// Of a path, its end tells most.
const short = (name) => (name.startsWith("/") && name.length > 28 ? "…" + name.slice(-27) : name);

const REASONS = {
    rotated: "rotated away before they were read",
    truncated: "the file was cut before it was read",
    removed: "removed before it was read to its end",
    replaced: "the file was replaced",
    corrupt: "the log is damaged here",
    rate_limited: "over the rate limit",
    sink_bound: "a sink fell behind its bound",
    unreachable: "the engine was away",
    refused: "refused by the peer of a sink",
};
const amount = (lines, size) => {
    const parts = [];
    if (lines !== undefined && lines !== null) parts.push(plural(lines, "line", "lines"));
    if (size !== undefined && size !== null) parts.push(bytes(size));
    return parts.length ? parts.join(", ") : "an unknown number of lines";
};
const range = (from, to) => {
    if (from && to) {
        const end = day(from) === day(to) ? clock(to) : `${day(to)} ${clock(to)}`;
        return `${day(from)} ${clock(from)} – ${end}`;
    }
    if (from) return `after ${day(from)} ${clock(from)}`;
    if (to) return `before ${day(to)} ${clock(to)}`;
    return "";
};

const sourceTag = (name) => {
    const tag = make("span", `source c${colourOf(name)}`);
    showText(tag, short(name), { raw: true });
    tag.title = name;
    return tag;
};

// One record as an element of the list.
const row = (record) => {
    const item = make("li");
    item.dataset.id = record.id;
    item.tabIndex = -1;
    item.record = record;
    const time = make("time", "", clock(record.time));
    time.dateTime = record.time;
    time.title = record.time;
    if (record.control) {
        const control = record.control;
        const isGap = control.control === "gap";
        item.className = isGap ? "gap" : "note";
        const text = make("span", "text");
        if (isGap) {
            text.append(make("strong", "", `Gap: ${amount(control.lines, control.bytes)} missing`));
            text.append(make("span", "", REASONS[control.reason] ?? control.reason));
            const between = range(record.from, record.to);
            if (between) text.append(make("span", "range", between));
            if (!control.exact) text.append(make("span", "", "some of it may have arrived"));
        } else {
            const words = {
                started: "reading began",
                stopped: "ended, and all of it was read",
                rotated: "the file was rotated",
                truncated: "the file was cut",
                clock_step: "the clock went back",
            };
            text.append(words[control.control] ?? control.control);
        }
        item.append(time, sourceTag(record.source), text);
        return item;
    }
    item.className = `line ${record.level ?? ""}`;
    const text = make("span", "text");
    showText(text, record.line, { mark: marks });
    if (record.cut) {
        const more = make("button", "more", `show all ${bytes(record.cut)}`);
        more.type = "button";
        more.addEventListener("click", (event) => {
            event.stopPropagation();
            open(item, true);
        });
        text.append("… ", more);
    }
    if (record.partial) text.append(make("span", "tag", "goes on"));
    if (record.late) text.append(make("span", "tag", "late"));
    const level = make("span", "level", { error: "ERR", warn: "WRN", info: "INF", debug: "DBG" }[record.level] ?? "");
    item.append(time, sourceTag(record.source), level, text);
    return item;
};

const bar = (text) => {
    const item = make("li", "bar", text);
    item.tabIndex = -1;
    return item;
};

// What is known of a line, and all of it.
const open = async (item, isWhole = false) => {
    const record = item.record;
    if (!record || record.control) return;
    let box = item.querySelector(".all");
    if (box && !isWhole) {
        box.remove();
        item.setAttribute("aria-expanded", "false");
        return;
    }
    if (!box) {
        box = make("div", "all");
        const facts = make("dl");
        const seq = record.id.split(".")[2];
        for (const [name, value] of [
            ["time", record.time],
            ["source", record.source],
            ["stream", record.stream],
            ["number", seq],
        ]) {
            const place = make("dd");
            showText(place, value, { raw: true });
            const pair = make("div");
            pair.append(make("dt", "", name), place);
            facts.append(pair);
        }
        const raw = make("pre");
        raw.tabIndex = 0;
        raw.setAttribute("aria-label", "The whole line");
        showText(raw, record.line, { raw: true });
        box.append(facts, raw);
        item.append(box);
        item.setAttribute("aria-expanded", "true");
    }
    if (record.cut && !box.isWhole) {
        const raw = box.querySelector("pre");
        try {
            const answer = await ask(`/api/line?id=${encodeURIComponent(record.id)}`);
            const text = await answer.text();
            raw.replaceChildren();
            showText(raw, text, { raw: true });
            box.isWhole = true;
        } catch (error) {
            box.append(make("p", "wrong", error.message));
        }
    }
};

let lastTop = 0;
const toEnd = () => {
    view.scrollTop = view.scrollHeight;
    lastTop = view.scrollTop;
};
const atEnd = () => view.scrollHeight - view.scrollTop - view.clientHeight < 40;

const showState = () => {
    const isOn = isLive && isFollowing;
    $("live").setAttribute("aria-pressed", String(isOn));
    $("state").textContent = isOn ? "live" : isLive ? "paused" : "history";
    $("jump").hidden = isOn || (isLive && unseen === 0);
    $("jump").textContent = isLive ? `${plural(unseen, "new line", "new lines")} ↓` : "back to live ↓";
    $("newer").hidden = isLive;
    $("empty").hidden = list.childElementCount > 0;
};

const markDays = () => {
    let before = null;
    for (const item of list.children) {
        const now = item.record ? day(item.record.time) : before;
        if (item.record) {
            if (before !== null && now !== before) item.dataset.day = now;
            else delete item.dataset.day;
        }
        before = now;
    }
};

const fresh = (records) => {
    const made = [];
    for (const record of records) {
        if (shown.has(record.id)) continue;
        shown.add(record.id);
        made.push(row(record));
    }
    return made;
};
const forget = (item) => {
    if (item.record) shown.delete(item.record.id);
    item.remove();
};

const append = (items) => {
    list.append(...items);
    if (isLive && !isFollowing) unseen += items.length;
    // While somebody reads, nothing moves: the oldest go at the next look at the end.
    if (isFollowing) {
        while (list.childElementCount > LINES_HELD_MAX) {
            forget(list.firstElementChild);
            $("older").hidden = false;
        }
        markDays();
        toEnd();
    } else if (list.childElementCount > 2 * LINES_HELD_MAX) {
        // Nobody comes back to these: they can be asked for again.
        while (list.childElementCount > 2 * LINES_HELD_MAX) list.lastElementChild.remove();
    }
    showState();
};

const clear = () => {
    list.replaceChildren();
    shown = new Set();
    unseen = 0;
};

const page = async (more) => {
    const answer = await ask(`/api/lines?${query({ limit: PAGE_LINES, ...more })}`);
    return answer.json();
};

const close = () => {
    if (stream) stream.close();
    stream = null;
};

// Everything from the newest line on.
const follow = () => {
    close();
    const mine = ++generation;
    isLive = true;
    isFollowing = true;
    early = [];
    view.setAttribute("aria-busy", "true");
    stream = new EventSource(`/api/live?${query()}`);
    stream.addEventListener("ready", async () => {
        if (mine !== generation) return;
        early = [];
        try {
            const found = await page({});
            if (mine !== generation) return;
            clear();
            complain();
            notice(found.notices);
            $("older").hidden = !found.is_full;
            append(fresh(found.lines));
            const waiting = early ?? [];
            early = null;
            for (const one of waiting) one();
        } catch (error) {
            if (mine === generation) complain(error.message);
        }
        view.setAttribute("aria-busy", "false");
        showState();
    });
    // What comes while the past is asked for waits for it, up to a bound.
    const on = (name, show) => {
        stream.addEventListener(name, (event) => {
            if (mine !== generation) return;
            const data = JSON.parse(event.data);
            if (early === null) show(data);
            else if (early.length < 200) early.push(() => show(data));
        });
    };
    on("lines", (records) => append(fresh(records)));
    on("skipped", (lines) => append([bar(`${plural(lines, "line", "lines")} skipped: more came than this browser took`)]));
    on("trouble", (sentence) => notice([sentence]));
    stream.addEventListener("error", () => {
        if (mine !== generation) return;
        $("state").textContent = "connecting";
        $("live").setAttribute("aria-pressed", "false");
        // A refused stream is not asked for again by itself: the reason is asked for.
        if (stream && stream.readyState === EventSource.CLOSED) {
            page({ limit: 1 }).then(() => complain("the stream of lines ended: reload"), (error) => complain(error.message));
        }
    });
    showState();
};

// Lines from a time on.
const goTo = async (moment) => {
    close();
    const mine = ++generation;
    isLive = false;
    isFollowing = false;
    view.setAttribute("aria-busy", "true");
    try {
        const found = await page({ after: moment });
        if (mine !== generation) return;
        clear();
        complain();
        notice(found.notices);
        list.append(...fresh(found.lines));
        $("older").hidden = false;
        markDays();
        view.scrollTop = 0;
    } catch (error) {
        complain(error.message);
    }
    view.setAttribute("aria-busy", "false");
    showState();
};

let isAsking = false;
const older = async () => {
    const first = [...list.children].find((item) => item.record);
    if (isAsking || !first) return;
    isAsking = true;
    const mine = generation;
    try {
        const found = await page({ before: first.record.id });
        if (mine === generation) {
            const height = view.scrollHeight;
            const top = view.scrollTop;
            isFollowing = false;
            list.prepend(...fresh(found.lines));
            markDays();
            view.scrollTop = top + view.scrollHeight - height;
            $("older").hidden = !found.is_full;
            notice(found.notices);
        }
    } catch (error) {
        complain(error.message);
    }
    isAsking = false;
    showState();
};
const newer = async () => {
    const last = [...list.children].findLast((item) => item.record);
    if (isAsking || !last) return;
    isAsking = true;
    const mine = generation;
    try {
        const found = await page({ after: last.record.id });
        if (mine === generation) {
            list.append(...fresh(found.lines));
            markDays();
            notice(found.notices);
            if (!found.is_full) follow();
        }
    } catch (error) {
        complain(error.message);
    }
    isAsking = false;
    showState();
};

// A filter changed: the same place again.
const again = () => {
    readMarks();
    complain();
    const at = $("time").value;
    if (isLive || !at) follow();
    else goTo(new Date(at).toISOString());
    showSources();
    const state = new URLSearchParams(query());
    history.replaceState(null, "", state.size ? `#${state}` : location.pathname);
};

const showSources = () => {
    const filter = $("find").value.toLowerCase();
    const names = new Set(known.sources.map((source) => source.name));
    const extra = [...wanted.sources].filter((name) => !names.has(name)).map((name) => ({ name, is_over: true, behind: [] }));
    const rows = [...known.sources, ...extra].filter((source) => source.name.toLowerCase().includes(filter));
    $("find").hidden = known.sources.length < 12;
    $("all").hidden = wanted.sources.size === 0;
    const focused = document.activeElement?.dataset?.source;
    $("sources").replaceChildren(
        ...rows.map((source) => {
            const item = make("li", source.is_over ? "over" : "");
            const button = make("button");
            button.type = "button";
            button.dataset.source = source.name;
            button.setAttribute("aria-pressed", String(wanted.sources.has(source.name)));
            const name = make("span", `name c${colourOf(source.name)}`);
            showText(name, short(source.name), { raw: true });
            button.title = `${source.name}${source.is_over ? " (ended)" : ""}`;
            button.append(name);
            const facts = make("span", "facts");
            if (source.gaps) {
                const gaps = make("span", "hole", plural(source.gaps, "gap", "gaps"));
                gaps.title = `${plural(source.lost_lines, "line is", "lines are")} known to be missing`;
                facts.append(gaps);
            }
            if (source.behind.length) {
                const behind = make("span", "behind", "pending");
                behind.title = `not yet at ${source.behind.join(", ")}`;
                facts.append(behind);
            }
            if (source.records !== undefined) facts.append(make("span", "", number(source.records)));
            button.append(facts);
            button.addEventListener("click", () => {
                if (!wanted.sources.delete(source.name)) wanted.sources.add(source.name);
                again();
            });
            item.append(button);
            return item;
        }),
    );
    if (focused !== undefined) {
        [...$("sources").querySelectorAll("button")].find((button) => button.dataset.source === focused)?.focus();
    }
};

const PRESSURES = {
    none: "takes lines",
    sinks: "full: waits for the slowest sink",
    disk_full: "the disk is full",
    descriptors: "waits for a file descriptor",
};

const showOverview = (overview) => {
    known = overview;
    $("leave").hidden = !overview.has_login;
    showSources();
    $("sinks").replaceChildren(
        ...overview.sinks.map((sink) => {
            const isFailing = Boolean(sink.failing);
            const item = make("li", isFailing ? "bad" : sink.lag_bytes > 0 ? "busy" : "good");
            item.append(make("span", "name", sink.name));
            const lag =
                sink.lag_bytes === 0
                    ? "has everything"
                    : `${bytes(sink.lag_bytes)} behind${sink.lag_seconds === null ? "" : `, ${span(sink.lag_seconds)}`}`;
            item.append(make("span", "facts", lag));
            if (sink.lost_records) item.append(make("p", "hole", `${plural(sink.lost_records, "record", "records")} lost for good`));
            if (isFailing) {
                const since = make("p", "why");
                showText(since, `failing since ${clock(sink.failing_since)}: ${sink.failing}`, { raw: true });
                item.append(since);
            }
            return item;
        }),
    );
    const log = overview.log;
    const facts = [["size", `${bytes(log.bytes)} in ${plural(log.segments, "segment", "segments")}`]];
    if (log.pressure) facts.push(["state", log.failed ? `failed: ${log.failed}` : PRESSURES[log.pressure]]);
    if (log.uncommitted_bytes !== null) facts.push(["not durable", bytes(log.uncommitted_bytes)]);
    if (log.written_at) facts.push(["last written", `${day(log.written_at)} ${clock(log.written_at)}`]);
    if (overview.sources_hidden) facts.push(["sources not listed", number(overview.sources_hidden)]);
    facts.push(["served by", overview.is_live ? `the shipper, ${overview.version}` : `serve-ui ${overview.version}`]);
    $("log").replaceChildren(...facts.flatMap(([name, value]) => [make("dt", "", name), make("dd", "", value)]));
    $("log").className = log.failed || (log.pressure && log.pressure !== "none") ? "bad" : "";
    $("gaps-box").hidden = overview.gaps.length === 0;
    $("gaps").replaceChildren(
        ...overview.gaps.slice(0, 20).map((gap) => {
            const item = make("li");
            const button = make("button");
            button.type = "button";
            const name = make("span", `name c${colourOf(gap.source)}`);
            showText(name, short(gap.source), { raw: true });
            button.append(name, make("span", "facts", amount(gap.lines, gap.bytes)));
            const why = REASONS[gap.reason] ?? gap.reason;
            button.append(make("span", "why", gap.sink ? `${why} (${gap.sink})` : why));
            button.title = range(gap.from, gap.to) || `found at ${gap.at}`;
            button.addEventListener("click", () => goTo(gap.from ?? gap.at));
            item.append(button);
            return item;
        }),
    );
    if (overview.ailments.length) notice(overview.ailments);
};

const look = async () => {
    try {
        if (!document.hidden) showOverview(await (await ask("/api/overview")).json());
    } catch (error) {
        $("log").className = "bad";
        $("log").replaceChildren(make("dt", "", "state"), make("dd", "", `no answer: ${error.message}`));
    }
    setTimeout(look, LOOK_EVERY_MS);
};

const theme = (name) => {
    if (name) document.documentElement.dataset.theme = name;
    try {
        if (name) localStorage.setItem("theme", name);
    } catch {
        // It is not remembered, then.
    }
};
const turnTheme = () => {
    const isDark =
        document.documentElement.dataset.theme === "dark" ||
        (!document.documentElement.dataset.theme && matchMedia("(prefers-color-scheme: dark)").matches);
    theme(isDark ? "light" : "dark");
};

const toggleFollow = () => {
    if (!isLive) follow();
    else if (isFollowing) isFollowing = false;
    else resume();
    showState();
};
const resume = () => {
    if (!isLive || unseen > PAGE_LINES) {
        follow();
        return;
    }
    isFollowing = true;
    unseen = 0;
    append([]);
};

let pause = 0;
$("q").addEventListener("input", () => {
    clearTimeout(pause);
    pause = setTimeout(() => {
        wanted.q = $("q").value;
        again();
    }, SEARCH_PAUSE_MS);
});
$("search").addEventListener("submit", (event) => {
    event.preventDefault();
    clearTimeout(pause);
    wanted.q = $("q").value;
    again();
});
const toggle = (id, key) => {
    $(id).addEventListener("click", () => {
        wanted[key] = !wanted[key];
        $(id).setAttribute("aria-pressed", String(wanted[key]));
        if (wanted.q) again();
    });
};
toggle("regex", "regex");
toggle("case", "exact");
for (const id of ["level", "stream"]) {
    $(id).addEventListener("change", () => {
        wanted[id] = $(id).value;
        again();
    });
}
$("time").addEventListener("change", () => {
    if ($("time").value) goTo(new Date($("time").value).toISOString());
    else follow();
});
$("find").addEventListener("input", showSources);
$("all").addEventListener("click", () => {
    wanted.sources.clear();
    again();
});
$("live").addEventListener("click", toggleFollow);
$("jump").addEventListener("click", () => {
    $("time").value = "";
    resume();
    view.focus();
});
$("older").addEventListener("click", older);
$("newer").addEventListener("click", newer);
$("theme").addEventListener("click", turnTheme);
$("keys").addEventListener("click", () => $("help").showModal());
$("menu").addEventListener("click", () => {
    const isOpen = document.body.classList.toggle("menu");
    $("menu").setAttribute("aria-expanded", String(isOpen));
});
list.addEventListener("click", (event) => {
    const item = event.target.closest("li");
    // Who selects text does not want it to move.
    if (!item || event.target.closest("button, .all") || String(getSelection())) return;
    open(item);
});
view.addEventListener("scroll", () => {
    if (isLive) {
        const isAtEnd = atEnd();
        if (isAtEnd && !isFollowing) resume();
        // Only who goes back wants to stay: lines that come, and a new size of the window, move the end away.
        else if (!isAtEnd && isFollowing && view.scrollTop < lastTop) isFollowing = false;
        lastTop = view.scrollTop;
        showState();
    }
    if (view.scrollTop < 80 && !$("older").hidden && !isFollowing) older();
    if (!isLive && atEnd()) newer();
});

new ResizeObserver(() => {
    if (isLive && isFollowing) toEnd();
}).observe(view);

const move = (step) => {
    const now = document.activeElement?.closest?.("#list > li");
    const next = now
        ? step > 0
            ? now.nextElementSibling
            : now.previousElementSibling
        : step > 0
          ? list.firstElementChild
          : list.lastElementChild;
    if (!next) return;
    isFollowing = false;
    next.focus({ preventScroll: true });
    next.scrollIntoView({ block: "nearest" });
    showState();
};
document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || $("help").open) return;
    const isTyping = event.target.matches("input, select, textarea");
    if (event.key === "Escape") {
        if (isTyping) view.focus();
        return;
    }
    if (isTyping) return;
    const isButton = event.target.matches("button");
    const acts = {
        "/": () => $("q").focus(),
        j: () => move(1),
        k: () => move(-1),
        ArrowDown: () => move(1),
        ArrowUp: () => move(-1),
        End: resume,
        r: () => $("regex").click(),
        t: turnTheme,
        "?": () => $("help").showModal(),
    };
    if (!isButton) {
        acts[" "] = toggleFollow;
        const item = event.target.closest("#list > li");
        if (item) acts.Enter = () => open(item);
    }
    const act = acts[event.key];
    if (act) {
        event.preventDefault();
        act();
    }
});

// A link keeps its filters behind the `#`.
const begin = () => {
    try {
        theme(localStorage.getItem("theme"));
    } catch {
        // It follows the system.
    }
    const asked = new URLSearchParams(location.hash.slice(1));
    asked.getAll("source").forEach((source) => wanted.sources.add(source));
    wanted.q = asked.get("q") ?? "";
    wanted.regex = asked.get("regex") === "1";
    wanted.exact = asked.get("case") === "1";
    wanted.level = asked.getAll("level").sort().reverse().join(",");
    wanted.stream = asked.get("stream") ?? "";
    $("q").value = wanted.q;
    $("level").value = wanted.level;
    $("stream").value = wanted.stream;
    $("regex").setAttribute("aria-pressed", String(wanted.regex));
    $("case").setAttribute("aria-pressed", String(wanted.exact));
    readMarks();
    follow();
    look();
};
begin();
