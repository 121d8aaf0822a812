//! One page of the browser: where it is, what it shows, and what is done to it.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use super::text::{base64, exception, field, quoted};
use super::{Browser, Key, Request};

/// The longest wait for a page, or for something on it.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often a wait looks again.
const POLL: Duration = Duration::from_millis(50);

/// What the page is shown on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Medium {
    /// A screen.
    Screen,
    /// Paper.
    Print,
}

/// How the page is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// Width of the window in CSS pixels.
    pub width: u32,
    /// Its height.
    pub height: u32,
    /// Whether the visitor asks for dark colours.
    pub dark: bool,
    /// Screen or paper.
    pub medium: Medium,
}

impl Look {
    /// A desktop's window, 1,280 pixels wide.
    pub const DESKTOP: Self = Self {
        width: 1280,
        height: 800,
        dark: false,
        medium: Medium::Screen,
    };
    /// A telephone, 390 pixels wide.
    pub const PHONE: Self = Self {
        width: 390,
        height: 844,
        ..Self::DESKTOP
    };

    /// The same in the dark.
    #[must_use]
    pub const fn dark(self) -> Self {
        Self { dark: true, ..self }
    }
}

/// A page. Closed when dropped.
#[derive(Debug)]
pub struct Page<'a> {
    browser: &'a Browser,
    session: String,
    target: String,
    context: String,
    home: String,
}

impl<'a> Page<'a> {
    pub(super) fn new(
        browser: &'a Browser,
        session: String,
        target: String,
        context: String,
        home: String,
    ) -> Self {
        Self {
            browser,
            session,
            target,
            context,
            home,
        }
    }

    /// A second page of the same visitor: both see the same storage, and one hides the other.
    pub fn beside(&self) -> Result<Page<'a>> {
        let server = self
            .home
            .trim_start_matches("http://")
            .trim_end_matches('/');
        self.browser.page_in(server.parse()?, &self.context)
    }

    /// Comes to the front, and hides the visitor's other pages.
    pub fn to_front(&self) -> Result<()> {
        self.call("Page.bringToFront", json!({})).map(drop)
    }

    fn call(&self, method: &str, parameters: Value) -> Result<Value> {
        self.browser.call(Some(&self.session), method, parameters)
    }

    fn seen<T>(&self, of: impl FnOnce(&mut super::Seen) -> T) -> T {
        let mut connection = self.browser.connection.borrow_mut();
        of(connection.seen.entry(self.session.clone()).or_default())
    }

    /// Goes to a path of the server, and waits until the page and all that it asks for are there. An
    /// answer that is an error is shown as every other.
    pub fn open(&self, path: &str) -> Result<()> {
        let url = format!("{}{}", self.home, path.trim_start_matches('/'));
        let loads = self.seen(|seen| seen.loads);
        let answer = self.call("Page.navigate", json!({"url": url}))?;
        if let Some(error) = answer["errorText"].as_str() {
            bail!("cannot open {url}: {error}");
        }
        // Without a loader it was only another place in the same document.
        if !answer["loaderId"].is_null() {
            self.wait_loaded(loads)
                .with_context(|| format!("{url} does not load"))?;
        }
        Ok(())
    }

    /// Does something that leads to another page, and waits for that one.
    pub fn follow(&self, act: impl FnOnce() -> Result<()>) -> Result<()> {
        let loads = self.seen(|seen| seen.loads);
        act()?;
        self.wait_loaded(loads)
    }

    /// Loads it again.
    pub fn reload(&self) -> Result<()> {
        self.follow(|| self.call("Page.reload", json!({})).map(drop))
    }

    fn wait_loaded(&self, before: u64) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while self.seen(|seen| seen.loads) == before {
            let left = deadline.saturating_duration_since(Instant::now());
            ensure!(!left.is_zero(), "not loaded in {} s", PATIENCE.as_secs());
            self.browser.listen(left)?;
        }
        Ok(())
    }

    /// What an expression of JavaScript is, after waiting for it where it is a promise.
    pub fn evaluate(&self, expression: &str) -> Result<Value> {
        let mut answer = self.call(
            "Runtime.evaluate",
            json!({
                "expression": expression, "returnByValue": true, "awaitPromise": true,
                "userGesture": true,
            }),
        )?;
        if !answer["exceptionDetails"].is_null() {
            bail!("{expression}: {}", exception(&answer));
        }
        Ok(answer["result"]["value"].take())
    }

    /// The same, as text.
    pub fn text(&self, expression: &str) -> Result<String> {
        match self.evaluate(expression)? {
            Value::String(text) => Ok(text),
            other => bail!("{expression} is no text but {other}"),
        }
    }

    /// All text of the page that can be seen.
    pub fn words(&self) -> Result<String> {
        self.text("document.body.innerText")
    }

    /// The texts of all elements that a selector finds, in the order of the document.
    pub fn texts(&self, selector: &str) -> Result<Vec<String>> {
        let found = self.evaluate(&format!(
            "[...document.querySelectorAll({})].map((one) => one.innerText.trim())",
            quoted(selector)
        ))?;
        Ok(serde_json::from_value(found)?)
    }

    /// How many elements a selector finds.
    pub fn count(&self, selector: &str) -> Result<u64> {
        let found = self.evaluate(&format!(
            "document.querySelectorAll({}).length",
            quoted(selector)
        ))?;
        found.as_u64().context("a length is a number")
    }

    /// Waits until an expression is true. `what` says what is waited for.
    pub fn wait(&self, what: &str, expression: &str) -> Result<()> {
        self.wait_within(PATIENCE, what, expression)
    }

    /// The same, within this time.
    pub fn wait_within(&self, limit: Duration, what: &str, expression: &str) -> Result<()> {
        let deadline = Instant::now() + limit;
        loop {
            // While another page loads there is none to ask.
            let answer = self.evaluate(&format!("Boolean({expression})"));
            if answer.as_ref().is_ok_and(|answer| answer == true) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let words = self.words().unwrap_or_default();
                bail!(
                    "{what}: not in {} s ({expression}: {answer:?}); the page says:\n{words}",
                    limit.as_secs()
                );
            }
            self.browser.listen(POLL)?;
        }
    }

    /// Lets the page do what it does, for so long.
    pub fn idle(&self, time: Duration) -> Result<()> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.browser
                .listen(end.saturating_duration_since(Instant::now()))?;
        }
        Ok(())
    }

    /// Clicks with the mouse into the middle of the first element that a selector finds. It must be
    /// what can be seen there.
    pub fn click(&self, selector: &str) -> Result<()> {
        self.wait(
            &format!("{selector} to click on"),
            &format!("document.querySelector({})", quoted(selector)),
        )?;
        let place = self.evaluate(&format!(
            "(() => {{
                const element = document.querySelector({});
                element.scrollIntoView({{block: 'center', inline: 'center'}});
                const box = element.getBoundingClientRect();
                const [x, y] = [box.x + box.width / 2, box.y + box.height / 2];
                const there = document.elementFromPoint(x, y);
                return {{x, y, seen: there !== null && (element.contains(there) || there.contains(element)),
                    there: there && there.outerHTML.slice(0, 200)}};
            }})()",
            quoted(selector)
        ))?;
        ensure!(
            place["seen"] == true,
            "{selector} cannot be clicked: there is {}",
            place["there"]
        );
        for kind in ["mousePressed", "mouseReleased"] {
            self.call(
                "Input.dispatchMouseEvent",
                json!({
                    "type": kind, "x": place["x"], "y": place["y"], "button": "left",
                    "clickCount": 1,
                }),
            )?;
        }
        Ok(())
    }

    /// Presses a key.
    pub fn press(&self, key: Key) -> Result<()> {
        for event in key.events() {
            self.call("Input.dispatchKeyEvent", event)?;
        }
        Ok(())
    }

    /// Types text where the focus is.
    pub fn type_text(&self, text: &str) -> Result<()> {
        self.call("Input.insertText", json!({"text": text}))
            .map(drop)
    }

    /// Clicks into a field, and replaces what is in it.
    pub fn fill(&self, selector: &str, text: &str) -> Result<()> {
        self.click(selector)?;
        self.evaluate(&format!(
            "document.querySelector({}).select()",
            quoted(selector)
        ))?;
        self.type_text(text)
    }

    /// What has the focus, as short HTML.
    pub fn focused(&self) -> Result<String> {
        self.text("document.activeElement.outerHTML.slice(0, 300)")
    }

    /// Looks at it like this from now on.
    pub fn look(&self, look: Look) -> Result<()> {
        let Look {
            width,
            height,
            dark,
            medium,
        } = look;
        self.call(
            "Emulation.setDeviceMetricsOverride",
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false}),
        )?;
        let scheme = if dark { "dark" } else { "light" };
        let medium = match medium {
            Medium::Screen => "",
            Medium::Print => "print",
        };
        self.call(
            "Emulation.setEmulatedMedia",
            json!({"media": medium, "features": [
                {"name": "prefers-color-scheme", "value": scheme},
                {"name": "prefers-reduced-motion", "value": "reduce"},
            ]}),
        )
        .map(drop)
    }

    /// The visitor's time zone, by its name in the tz data base.
    pub fn time_zone(&self, name: &str) -> Result<()> {
        self.call("Emulation.setTimezoneOverride", json!({"timezoneId": name}))
            .map(drop)
    }

    /// Whether scripts of pages that are opened from now on run.
    pub fn scripts(&self, run: bool) -> Result<()> {
        self.call(
            "Emulation.setScriptExecutionDisabled",
            json!({"value": !run}),
        )
        .map(drop)
    }

    /// Header fields of all requests from now on.
    pub fn headers(&self, fields: &[(&str, &str)]) -> Result<()> {
        let fields: serde_json::Map<String, Value> = fields
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).into()))
            .collect();
        self.call("Network.setExtraHTTPHeaders", json!({"headers": fields}))
            .map(drop)
    }

    /// Runs a script in the page, whatever its content policy says: as an operator's own tool does.
    pub fn run(&self, script: &str) -> Result<()> {
        let answer = self.call("Runtime.evaluate", json!({"expression": script}))?;
        if !answer["exceptionDetails"].is_null() {
            bail!("a script failed: {}", exception(&answer));
        }
        Ok(())
    }

    /// Runs a script in every page that is opened from now on, before its own.
    pub fn run_first(&self, script: &str) -> Result<()> {
        self.call(
            "Page.addScriptToEvaluateOnNewDocument",
            json!({"source": script}),
        )
        .map(drop)
    }

    /// A picture (PNG) of the window, or of the page in its whole height.
    pub fn picture(&self, whole: bool) -> Result<Vec<u8>> {
        let mut parameters = json!({"format": "png", "captureBeyondViewport": whole});
        if whole {
            let size = self.call("Page.getLayoutMetrics", json!({}))?;
            let size = &size["cssContentSize"];
            parameters["clip"] = json!({
                "x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1,
            });
        }
        let picture = self.call("Page.captureScreenshot", parameters)?;
        base64(&field(&picture, "data")?)
    }

    /// As printed on A4 (PDF).
    pub fn printed(&self) -> Result<Vec<u8>> {
        let printed = self.call(
            "Page.printToPDF",
            json!({"paperWidth": 8.27, "paperHeight": 11.69, "printBackground": false}),
        )?;
        base64(&field(&printed, "data")?)
    }

    /// What went wrong since this was asked before.
    pub fn faults(&self) -> Result<Vec<String>> {
        // What happened before the answer to this was said before it.
        self.evaluate("0")?;
        Ok(self.seen(|seen| std::mem::take(&mut seen.faults)))
    }

    /// What it has asked for since this was asked before.
    pub fn requests(&self) -> Result<Vec<Request>> {
        self.evaluate("0")?;
        let requests = self.seen(|seen| std::mem::take(&mut seen.requests));
        Ok(requests.into_iter().map(|(_, request)| request).collect())
    }
}

impl Drop for Page<'_> {
    fn drop(&mut self) {
        // It goes with the browser at the latest.
        let close = json!({"targetId": self.target});
        let _ = self.browser.call(None, "Target.closeTarget", close);
    }
}
