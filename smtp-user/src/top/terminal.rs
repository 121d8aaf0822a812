//! The terminal: without echo and line editing while it is drawn on, and as it was after that.
//!
//! Contract: [`Terminal`] gives back the settings that it found, when it is dropped and when the
//! program panics; what was on the screen before is there again.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsFd;
use std::sync::{Mutex, Once, PoisonError};

use anyhow::Context as _;
use nix::sys::termios::{
    InputFlags, LocalFlags, SetArg, SpecialCharacterIndices, Termios, tcgetattr, tcsetattr,
};

use crate::failure::Failure;

/// The alternate screen, without a cursor, where a line that is too long is cut and not wrapped.
/// (ECMA-48; the private modes are xterm's, and by now everybody's.)
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l";
const LEAVE: &str = "\x1b[0m\x1b[?7h\x1b[?25h\x1b[?1049l";
/// To the upper left corner; nothing up to the end of the line, or of the screen.
const HOME: &str = "\x1b[H";
const END_OF_LINE: &str = "\x1b[K";
const END_OF_SCREEN: &str = "\x1b[J";

/// What to give back, and to which terminal. A static, because the hook of a panic has nothing else.
static FOUND: Mutex<Option<Found>> = Mutex::new(None);

struct Found {
    settings: Termios,
    input: File,
    output: File,
}

/// See the module.
pub(super) struct Terminal {
    output: File,
}

impl Terminal {
    /// Takes the terminal on standard input and output.
    pub(super) fn enter() -> Result<Self, Failure> {
        Self::of(&io::stdin(), &io::stdout())
    }

    fn of(input: &impl AsFd, output: &impl AsFd) -> Result<Self, Failure> {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let before = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                // First, or what is said would vanish with the screen.
                restore();
                before(panic);
            }));
        });
        let settings = tcgetattr(input).context("cannot read the settings of the terminal")?;
        let mut raw = settings.clone();
        // Keys as they are pressed, Ctrl-C and Ctrl-Z among them; no echo.
        raw.local_flags
            .remove(LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG | LocalFlags::IEXTEN);
        // Ctrl-S would stop the screen.
        raw.input_flags.remove(InputFlags::IXON);
        raw.control_chars[SpecialCharacterIndices::VMIN as usize] = 1;
        raw.control_chars[SpecialCharacterIndices::VTIME as usize] = 0;
        let copy = |fd: std::os::fd::BorrowedFd<'_>| -> Result<File, Failure> {
            let copy = fd.try_clone_to_owned();
            Ok(copy
                .context("cannot copy the descriptor of the terminal")?
                .into())
        };
        *found() = Some(Found {
            settings,
            input: copy(input.as_fd())?,
            output: copy(output.as_fd())?,
        });
        let mut this = Self {
            output: copy(output.as_fd())?,
        };
        tcsetattr(input, SetArg::TCSADRAIN, &raw)
            .context("cannot change the settings of the terminal")?;
        this.write(ENTER)?;
        Ok(this)
    }

    /// Columns and rows.
    pub(super) fn size(&self) -> (u16, u16) {
        terminal_size::terminal_size_of(&self.output)
            .map_or((80, 24), |(width, height)| (width.0, height.0))
    }

    /// Shows these lines, which have to fit.
    pub(super) fn draw(&mut self, lines: &[String]) -> Result<(), Failure> {
        let mut text = HOME.to_owned();
        for (i, line) in lines.iter().enumerate() {
            if i > 0 {
                text.push_str("\r\n");
            }
            text.push_str(line);
            text.push_str(END_OF_LINE);
        }
        text.push_str(END_OF_SCREEN);
        self.write(&text)
    }

    fn write(&mut self, text: &str) -> Result<(), Failure> {
        self.output
            .write_all(text.as_bytes())
            .context("cannot write to the terminal")?;
        Ok(())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        restore();
    }
}

/// Gives back what was found, once.
fn restore() {
    let found = found().take();
    if let Some(Found {
        settings,
        input,
        mut output,
    }) = found
    {
        // The terminal may be gone: then there is nobody to tell, and nothing to give back.
        let _ = output.write_all(LEAVE.as_bytes());
        let _ = tcsetattr(&input, SetArg::TCSADRAIN, &settings);
    }
}

fn found() -> std::sync::MutexGuard<'static, Option<Found>> {
    FOUND.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use nix::pty::openpty;

    use super::*;

    #[test]
    fn after_a_panic_the_terminal_is_as_it_was() {
        let pty = openpty(None, None).expect("a pseudo-terminal");
        let before = tcgetattr(&pty.slave).expect("settings");
        let slave = pty.slave.try_clone().expect("a copy");
        let shown = std::thread::spawn(move || {
            let mut terminal = Terminal::of(&slave, &slave).expect("a terminal");
            let raw = tcgetattr(&slave).expect("settings");
            assert!(!raw.local_flags.contains(LocalFlags::ECHO));
            terminal.draw(&["a line".to_owned()]).expect("drawn");
            // Not dropped by unwinding: the hook alone has to do it.
            let terminal = std::mem::ManuallyDrop::new(terminal);
            assert!(terminal.size().0 == u16::MAX, "a panic for this test");
        });
        assert!(shown.join().is_err(), "it panics");
        assert_eq!(tcgetattr(&pty.slave).expect("settings"), before);
        let mut screen = vec![0; 4096];
        let read = File::from(pty.master)
            .read(&mut screen)
            .expect("what was drawn");
        let screen = String::from_utf8_lossy(&screen[..read]);
        assert!(
            screen.contains("a line") && screen.ends_with(LEAVE),
            "{screen:?}"
        );
    }
}
