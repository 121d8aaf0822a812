//! The static files, all of them in the program.
//!
//! Contract: a file changes with the program only. Its entity tag is made of its content, so a browser
//! asks again at every load and is told in a few bytes that it has it. Our own scripts and styles are sent
//! without their comments and indentation: every octet is paid for at every new gateway.
#![forbid(unsafe_code)]

use std::sync::LazyLock;

use axum::Router;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;

use super::App;

/// A file.
struct File {
    path: &'static str,
    kind: &'static str,
    text: &'static str,
}

/// All of them.
const FILES: &[File] = &[
    File {
        path: "/app.js",
        kind: "text/javascript; charset=utf-8",
        text: include_str!("static/app.js"),
    },
    File {
        path: "/style.css",
        kind: "text/css; charset=utf-8",
        text: include_str!("static/style.css"),
    },
    File {
        path: "/screens.css",
        kind: "text/css; charset=utf-8",
        text: include_str!("static/screens.css"),
    },
    File {
        path: "/chart.js",
        kind: "text/javascript; charset=utf-8",
        text: include_str!("static/chart.js"),
    },
    File {
        path: "/act.js",
        kind: "text/javascript; charset=utf-8",
        text: include_str!("static/act.js"),
    },
    File {
        path: "/uplot.js",
        kind: "text/javascript; charset=utf-8",
        text: include_str!("static/uplot.js"),
    },
    File {
        path: "/uplot.css",
        kind: "text/css; charset=utf-8",
        text: include_str!("static/uplot.css"),
    },
    File {
        path: "/icon.svg",
        kind: "image/svg+xml",
        text: include_str!("static/icon.svg"),
    },
];

/// All of them, as they are sent.
static LEAN: LazyLock<Vec<File>> = LazyLock::new(|| {
    let files = FILES.iter().map(|file| File {
        text: match file.path {
            "/uplot.js" | "/uplot.css" | "/icon.svg" => file.text,
            _ => String::leak(lean(file.text, file.kind.starts_with("text/css"))),
        },
        ..*file
    });
    files.collect()
});

/// A script or style of our own without comments, indentation and empty lines. In them no block comment
/// begins behind code, and no text goes over several lines.
fn lean(text: &str, style: bool) -> String {
    let mut lean = String::with_capacity(text.len());
    let mut comment = false;
    for line in text.lines().map(str::trim) {
        comment |= line.starts_with("/*");
        if !(comment || line.is_empty() || line.starts_with("//")) {
            if style {
                lean.push_str(&line.replace(": ", ":").replace(" {", "{"));
            } else {
                // The end of a line may be that of a statement.
                lean.push_str(line);
                lean.push('\n');
            }
        }
        comment &= !line.ends_with("*/");
    }
    lean
}

/// Their paths.
pub(in crate::serve) fn paths() -> impl Iterator<Item = &'static str> {
    FILES.iter().map(|file| file.path)
}

/// A route for each.
pub(in crate::serve) fn routes() -> Router<App> {
    LEAN.iter().fold(Router::new(), |router, file| {
        router.route(
            file.path,
            get(move |headers: HeaderMap| async move { file.answer(&headers) }),
        )
    })
}

impl File {
    /// The tag of this content. A checksum is enough: it tells versions of one file apart.
    fn tag(&self) -> String {
        format!(
            "\"{:x}-{:08x}\"",
            self.text.len(),
            crc32fast::hash(self.text.as_bytes())
        )
    }

    fn answer(&self, request: &HeaderMap) -> Response {
        let tag = self.tag();
        // RFC 9110, section 13.1.2: one or more tags, or any.
        let has_it = request
            .get_all(header::IF_NONE_MATCH)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .map(|value| value.trim().trim_start_matches("W/"))
            .any(|value| value == tag || value == "*");
        let headers = [
            (header::CONTENT_TYPE, self.kind.to_owned()),
            (header::CACHE_CONTROL, "no-cache".to_owned()),
            (header::ETAG, tag),
        ];
        if has_it {
            (StatusCode::NOT_MODIFIED, headers).into_response()
        } else {
            (headers, self.text).into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_a_file_is_not_sent_it_again() {
        for file in FILES {
            let first = file.answer(&HeaderMap::new());
            assert_eq!(first.status(), StatusCode::OK);
            let tag = first.headers()[header::ETAG].clone();
            let mut request = HeaderMap::new();
            request.insert(header::IF_NONE_MATCH, tag);
            assert_eq!(file.answer(&request).status(), StatusCode::NOT_MODIFIED);
            request.insert(
                header::IF_NONE_MATCH,
                "\"0-00000000\"".parse().expect("a value"),
            );
            assert_eq!(file.answer(&request).status(), StatusCode::OK);
        }
    }

    #[test]
    fn what_is_sent_is_lean_and_whole() {
        let style = "/* a\n   b */\n:root {\n  --x: 1;\n}\n\nth,\ntd { color: red; }\n";
        assert_eq!(lean(style, true), ":root{--x:1;}th,td{ color:red; }");
        let script = "// c\n/** d */\n  run(\"//e\");\n\n  {}\n";
        assert_eq!(lean(script, false), "run(\"//e\");\n{}\n");
        let mut octets = 0;
        for (file, lean) in FILES.iter().zip(LEAN.iter()) {
            octets += lean.text.len();
            if file.path.starts_with("/uplot") {
                assert_eq!(file.text, lean.text);
                continue;
            }
            // A text over several lines would lose its indentation.
            for line in file.text.lines().filter(|_| file.path.ends_with(".js")) {
                assert!(line.matches('`').count().is_multiple_of(2), "{line}");
            }
            // A value over several lines would lose the space between its parts.
            for line in file.text.lines().filter(|_| file.path.ends_with(".css")) {
                let whole = line.ends_with(['{', '}', ';', ',', '/', ':']) || line.is_empty();
                assert!(whole || !line.contains(':'), "{line} in {}", file.path);
            }
            assert!(
                !lean.text.contains("*/"),
                "a comment behind code in {}",
                file.path
            );
        }
        assert!(
            octets < 100_000,
            "{octets} octets of static files are too many"
        );
    }

    #[test]
    fn the_files_of_others_are_byte_for_byte_theirs() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/serve/page/static");
        let checked = std::process::Command::new("sha256sum")
            .args(["--check", "--strict", "uplot.sha256"])
            .current_dir(folder)
            .output()
            .expect("sha256sum");
        let text = String::from_utf8_lossy(&checked.stdout);
        assert!(checked.status.success(), "{text}");
        for file in ["uplot.js: OK", "uplot.css: OK", "LICENSE-uPlot: OK"] {
            assert!(text.contains(file), "no {file} in:\n{text}");
        }
    }

    /// Of the 150 kB that a screen may have with all its files, the files leave a quarter to the screen.
    #[test]
    fn all_files_together_are_light() {
        let sizes = FILES.iter().map(|file| file.text.len());
        let all: usize = sizes.sum();
        assert!(all < 125_000, "{all} bytes");
    }

    /// What could turn text into markup or code, or fetch from elsewhere.
    #[test]
    fn no_file_makes_markup_of_text_or_fetches_from_elsewhere() {
        for file in FILES.iter().filter(|file| file.path != "/icon.svg") {
            // A file of somebody else's begins with a comment that says where it is from.
            let comment = file
                .text
                .split_once("*/")
                .filter(|_| file.text.starts_with("/*!"));
            let text = comment.map_or(file.text, |(_, text)| text);
            for bad in [
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "document.write",
                "setHTMLUnsafe",
                "createContextualFragment",
                "eval(",
                "new Function",
                "http://",
                "https://",
                "@import",
            ] {
                assert!(!text.contains(bad), "{bad} in {}", file.path);
            }
        }
    }
}
