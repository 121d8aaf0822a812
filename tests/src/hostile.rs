//! Text that does harm where it is taken for something else, and whether a page, a table or a terminal did.
//!
//! Contract: what is looked at here is what a browser made of the text, not what was sent; each check
//! panics and names the text.

use serde_json::json;
use xtask::browser::Page;

use crate::watched::Good as _;

/// Text that does harm where it is taken for something else.
pub const CORPUS: &[&str] = &[
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(2)>",
    "\"><svg onload=alert(3)>",
    "' onmouseover='alert(4)' x='",
    "\" autofocus onfocus=\"alert(5)",
    "</title><script>alert(6)</script>",
    "</textarea></select></table></dialog><b>out</b>",
    "<svg><style><img src=\"</style><img src=x onerror=alert(7)//\">",
    "<math><mtext><table><mglyph><style><img src onerror=alert(8)>",
    "<iframe srcdoc='<script>alert(9)</script>'>",
    "<base href='http://192.0.2.1/'>",
    "<meta http-equiv=refresh content='0;url=http://192.0.2.1/'>",
    "<a href=javascript:alert(10)>x</a>",
    "javascript:alert(11)",
    "//192.0.2.1/x.js",
    "http://192.0.2.1/?q=1#f",
    "<style>*{display:none}</style>",
    "x;background:url(http://192.0.2.1/x)",
    "expression(alert(12))",
    "{{7*7}} {% raw %} ${7*7} #{7*7} <%= 7*7 %>",
    "`${alert(13)}`",
    "\\u003cscript\\u003ealert(14)\\u003c/script\\u003e",
    "&lt;script&gt;alert(15)&lt;/script&gt; &#x3c; &amp;",
    "%3Cscript%3Ealert(16)%3C/script%3E",
    "]]><!--><!-- --><script>alert(17)</script>",
    "<!-- --!><script>alert(18)</script>",
    "=HYPERLINK(\"http://192.0.2.1/\",\"x\")",
    "+1+cmd|'/C calc'!A0",
    "-1+1",
    "@SUM(1,2)",
    "a,b;c|d\"e\"f'g",
    "\u{202e}txt.exe\u{202c}\u{2066}x\u{2069}",
    "\u{202a}a\u{202b}b\u{202c}\u{202d}c\u{202e}d",
    "\u{2069}\u{2067}e\u{2068}\u{202e}nobody has acted",
    "\u{5e9}\u{5dc}\u{5d5}\u{5dd} 22 (1)",
    "\u{645}\u{631}\u{62d}\u{628}\u{627}: 3",
    "zero\u{200b}width\u{200d}\u{feff}joined\u{2060}",
    "Z\u{0351}\u{0352}\u{0363}a\u{0334}l\u{0489}go",
    "\u{1f9d1}\u{200d}\u{1f4bb} \u{fdfa} \u{2028} \u{ffff}",
    "1e999 NaN null undefined true -0",
    "__proto__ constructor prototype",
    "../../../../etc/passwd",
    "'; DROP TABLE verdict; --",
];

/// Text of one line that nothing here takes: it would be more than one line, or a command.
pub const CONTROL: &[&str] = &[
    "two\nlines",
    "\u{1b}[2J\u{1b}]0;title\u{7}",
    "nul\0nul",
    "back\u{8}space\r",
    "\u{9b}31m",
];

/// A name of an interface: Linux takes any 15 octets but slashes, spaces and colons.
pub const INTERFACE: &str = "<b'\"&{{7*7}}=x>";

/// What no text of ours makes: elements and attributes by which a script is run or something is fetched.
const INTRUDERS: &str = "[...document.querySelectorAll('*')].filter((one) =>
    (['SCRIPT', 'STYLE', 'IFRAME', 'IMG', 'OBJECT', 'EMBED', 'BASE', 'MATH', 'AUDIO', 'VIDEO'].includes(one.nodeName)
        && !(one.nodeName === 'SCRIPT' && one.src.startsWith(location.origin + '/') && one.closest('head')))
    || (one.nodeName === 'META' && one.httpEquiv !== '')
    || [...one.attributes].some((attribute) => attribute.name.startsWith('on')
        || (['href', 'src', 'action', 'formaction', 'xlink:href'].includes(attribute.name)
            && (new URL(attribute.value, location.href).origin !== location.origin)))
).map((one) => one.outerHTML.slice(0, 200))";

/// Nothing of a text has become anything else in this page.
#[track_caller]
fn nothing_breaks_out(page: &Page<'_>, what: &str) {
    let intruders = page.evaluate(INTRUDERS).good();
    assert_eq!(intruders, json!([]), "{what}");
    let turned = page.evaluate(TURNED).good();
    assert_eq!(turned, json!([]), "{what}");
    // Whatever waits for the mouse or for the focus gets it.
    page.evaluate(
        "for (const one of document.querySelectorAll('*')) {
            one.dispatchEvent(new MouseEvent('mouseover', {bubbles: true}));
            one.focus?.();
        } 0",
    )
    .good();
}

/// Text that turns the direction of what is beside it: what does so by command is nowhere, and letters that
/// are read from right to left stand apart.
pub const TURNED: &str = "(() => {
    const commands = /[\\u202a-\\u202e\\u2066-\\u2069]/u, letters = /[\\u0590-\\u08ff]/u, found = [];
    const walk = document.createTreeWalker(document.documentElement, NodeFilter.SHOW_ALL);
    for (let node = walk.currentNode; node !== null; node = walk.nextNode()) {
        if (node.nodeType === 3 && (commands.test(node.data)
            || (letters.test(node.data) && !node.parentElement.closest('bdi, title')))) found.push(node.data);
        for (const { name, value } of node.attributes ?? []) {
            if (commands.test(value)) found.push(`${name}=${value}`);
        }
    }
    return found.map((text) => text.slice(0, 200));
})()";

/// A page is opened, and nothing happens in it but what it says; an error is the answer where it is
/// `refused`.
#[track_caller]
pub fn harmless(page: &Page<'_>, path: &str, refused: bool) {
    page.open(path).good();
    nothing_breaks_out(page, path);
    let faults = page.faults().good();
    let faults: Vec<_> = faults
        .into_iter()
        .filter(|fault| !(refused && fault.contains("server responded with a status of 4")))
        .collect();
    assert!(faults.is_empty(), "{path}: {faults:?}");
}

/// Text as a part of a URL.
pub fn encoded(text: &str) -> String {
    text.bytes().map(|octet| format!("%{octet:02X}")).collect()
}

/// The cells of CSV (RFC 4180), without the apostrophe that keeps a formula from being one.
pub fn cells(csv: &str) -> Vec<String> {
    let mut cells = vec![String::new()];
    let (mut quoted, mut characters) = (false, csv.chars().peekable());
    while let Some(character) = characters.next() {
        let cell = cells.last_mut().expect("there is one");
        match character {
            '"' if quoted && characters.peek() == Some(&'"') => {
                characters.next();
                cell.push('"');
            }
            '"' => quoted = !quoted,
            ',' | '\r' | '\n' if !quoted => cells.push(String::new()),
            other => cell.push(other),
        }
    }
    for cell in &cells {
        assert!(
            !cell.starts_with(['=', '+', '@', '\t', '\r'])
                && (!cell.starts_with('-') || cell.len() == 1 || cell.parse::<f64>().is_ok()),
            "a spreadsheet takes {cell:?} for a formula"
        );
    }
    let bare = |cell: String| match cell.strip_prefix('\'') {
        Some(rest) if rest.starts_with(['=', '+', '-', '@']) => rest.to_owned(),
        _ => cell,
    };
    cells.into_iter().map(bare).collect()
}

/// What a spreadsheet or a terminal would obey is not in a text that goes there, but a sign for it.
pub fn without_commands(text: &str) -> String {
    let obeyed =
        |c: char| c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.replace(obeyed, "\u{fffd}")
}

/// Whether a text has what a terminal obeys.
pub fn is_clean(text: &str) -> bool {
    text.chars()
        .all(|c| c == '\n' || c == '\r' || !c.is_control())
}
