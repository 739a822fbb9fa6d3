//! The whole terminal as one picture that changes, for as long as it is held; and the keys meanwhile.
//!
//! The terminal is given back as it was however raftctl ends, but for SIGKILL: by dropping the screen, and
//! after a panic before its message is written. Signals are the business of whoever holds the screen.

use std::io::{IsTerminal, Stdout, stdout};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::event::{self, Event, KeyEvent, KeyEventKind};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use ratatui::{Frame, Terminal};
use tokio::sync::mpsc;

use super::out;
use crate::error::{Error, Result};

/// Keys that nobody has looked at yet; whoever types faster waits.
const KEYS_MAX: usize = 16;

/// How long the thread of the keys outlives the screen.
const KEY_PATIENCE: Duration = Duration::from_millis(100);

/// Whether the terminal has to be given back.
static IS_HELD: AtomicBool = AtomicBool::new(false);

/// Whether there is a terminal, to show something on and to hear keys from.
#[must_use]
pub fn is_there() -> bool {
    std::io::stdin().is_terminal() && stdout().is_terminal()
}

/// The terminal, held.
pub struct Screen {
    terminal: Terminal<CrosstermBackend<Stdout>>,
}

impl Screen {
    /// Takes the terminal. What is said meanwhile on standard error is kept for [`out::take_talk`].
    ///
    /// # Errors
    /// It can't be had.
    pub fn take() -> Result<Self> {
        give_back_after_panic();
        let taken = enable_raw_mode().and_then(|()| {
            IS_HELD.store(true, Ordering::SeqCst);
            out::keep_talk(true);
            execute!(stdout(), EnterAlternateScreen)?;
            Terminal::new(CrosstermBackend::new(stdout()))
        });
        match taken {
            Ok(terminal) => Ok(Screen { terminal }),
            Err(error) => {
                give_back();
                Err(unusable(&error))
            }
        }
    }

    /// Draws a picture.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn draw(&mut self, picture: impl FnOnce(&mut Frame<'_>)) -> Result<()> {
        let drawn = self.terminal.draw(picture);
        drawn.map(drop).map_err(|error| unusable(&error))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // Where the terminal is gone there is nobody to tell.
        let _ = self.terminal.show_cursor();
        give_back();
    }
}

/// The terminal as it was, once.
fn give_back() {
    if IS_HELD.swap(false, Ordering::SeqCst) {
        // Each is worth trying, whatever became of the other.
        let _ = execute!(
            stdout(),
            LeaveAlternateScreen,
            ratatui::crossterm::cursor::Show
        );
        let _ = disable_raw_mode();
        out::keep_talk(false);
    }
}

/// A message of a panic on the picture would be gone with it.
fn give_back_after_panic() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let report = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            give_back();
            report(info);
        }));
    });
}

fn unusable(error: &std::io::Error) -> Error {
    Error::Other(format!("cannot use the terminal: {error}"))
}

/// What a person does at the terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// A key.
    Key(KeyEvent),
    /// The terminal has another size.
    Resized,
}

/// Hears keys for as long as somebody takes them. The stream ends where the terminal is gone.
#[must_use]
pub fn inputs() -> mpsc::Receiver<Input> {
    let (sender, receiver) = mpsc::channel(KEYS_MAX);
    std::thread::spawn(move || {
        while !sender.is_closed() {
            let input = match event::poll(KEY_PATIENCE) {
                Ok(false) => continue,
                Ok(true) => event::read(),
                Err(error) => Err(error),
            };
            let input = match input {
                Ok(Event::Key(key)) if key.kind == KeyEventKind::Press => Input::Key(key),
                Ok(Event::Resize(..)) => Input::Resized,
                Ok(_) => continue,
                Err(_) => return,
            };
            if sender.blocking_send(input).is_err() {
                return;
            }
        }
    });
    receiver
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// Set where the terminal is one that may be spoilt.
    const ON_A_TERMINAL: &str = "RAFTCTL_TEST_PANICS_ON_A_TERMINAL";

    // Not a test of its own: what the next one runs in a terminal of its own.
    #[test]
    fn panics_while_the_screen_is_held() {
        if std::env::var_os(ON_A_TERMINAL).is_none() {
            return;
        }
        let mut screen = Screen::take().unwrap();
        screen.draw(|_| ()).unwrap();
        panic!("as it is meant to");
    }

    // After a panic the terminal is as it was, and the message stands on it.
    #[test]
    #[ignore = "needs a terminal: script, of Debian's bsdutils"]
    fn a_panic_gives_the_terminal_back() {
        let own = std::env::current_exe().unwrap();
        let test = "terminal::screen::tests::panics_while_the_screen_is_held";
        let inner = format!(
            "{ON_A_TERMINAL}=1 '{}' --exact {test} --nocapture; stty -a",
            own.display()
        );
        let output = Command::new("script")
            .args(["--quiet", "--command", &inner, "/dev/null"])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let (before, after) = text.split_once("as it is meant to").expect(&text);
        assert!(before.contains("\u{1b}[?1049h"), "{text}");
        assert!(before.contains("\u{1b}[?1049l"), "{text}");
        assert!(
            after.contains(" icanon") && after.contains(" echo "),
            "{text}"
        );
    }
}
