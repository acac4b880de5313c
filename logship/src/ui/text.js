// Text of log lines as nodes. A line is never markup: only text nodes and empty-handed spans are made, and what
// would be invisible or move other text about stands there as a visible sign.
"use strict";

const showText = (() => {
    // Colours of terminals (ECMA-48, SGR): they say nothing, and are left out.
    const COLOURS = /\u001b\[[0-9;:]*m/g;
    // Control characters, what directs writing (UAX #9), what has no width, and half characters.
    const SPECIAL =
        /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]|\udb40[\udc00-\udfff]/g;

    const sign = (character) => {
        const code = character.codePointAt(0);
        if (code < 0x20) return String.fromCharCode(0x2400 + code);
        if (code === 0x7f) return "\u2421";
        return "U+" + code.toString(16).toUpperCase().padStart(4, "0");
    };

    // Appends `text` to `parent`; where `mark` matches, it is marked.
    const plain = (parent, text, mark) => {
        if (!mark) {
            parent.append(text);
            return;
        }
        let at = 0;
        let left = 100;
        mark.lastIndex = 0;
        for (let found; left > 0 && (found = mark.exec(text)); left--) {
            if (found[0] === "") {
                mark.lastIndex++;
                continue;
            }
            parent.append(text.slice(at, found.index));
            const marked = document.createElement("mark");
            marked.textContent = found[0];
            parent.append(marked);
            at = found.index + found[0].length;
        }
        parent.append(text.slice(at));
    };

    return (parent, text, { mark = null, raw = false } = {}) => {
        if (!raw) text = text.replace(COLOURS, "");
        let at = 0;
        for (const found of text.matchAll(SPECIAL)) {
            if (found.index > at) plain(parent, text.slice(at, found.index), mark);
            const special = document.createElement("span");
            special.className = "special";
            special.textContent = sign(found[0]);
            special.title = "U+" + found[0].codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
            parent.append(special);
            at = found.index + found[0].length;
        }
        if (at < text.length) plain(parent, text.slice(at), mark);
    };
})();
