//! Keys of the keyboard.

use serde_json::{Value, json};

/// A key that can be pressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// To the next thing that can have the focus.
    Tab,
    /// To the one before: with Shift.
    BackTab,
    /// Enter.
    Enter,
    /// Space.
    Space,
    /// Escape.
    Escape,
    /// Arrow down.
    Down,
}

impl Key {
    /// The parameters of `Input.dispatchKeyEvent`, pressed and let go.
    pub(super) fn events(self) -> [Value; 2] {
        // Key and code of the UI Events specification, and the code of Windows that Chromium reads.
        let (key, code, number, text, modifiers) = match self {
            Self::Tab => ("Tab", "Tab", 9, "", 0),
            Self::BackTab => ("Tab", "Tab", 9, "", 8),
            Self::Enter => ("Enter", "Enter", 13, "\r", 0),
            Self::Space => (" ", "Space", 32, " ", 0),
            Self::Escape => ("Escape", "Escape", 27, "", 0),
            Self::Down => ("ArrowDown", "ArrowDown", 40, "", 0),
        };
        let event = |kind: &str, text: &str| {
            json!({
                "type": kind, "key": key, "code": code, "text": text, "modifiers": modifiers,
                "windowsVirtualKeyCode": number, "nativeVirtualKeyCode": number,
            })
        };
        let down = if text.is_empty() {
            "rawKeyDown"
        } else {
            "keyDown"
        };
        [event(down, text), event("keyUp", "")]
    }
}
