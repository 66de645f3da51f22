//! `trailgate top`: shows the status live in the terminal.

mod frame;

use std::env;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use crossterm::cursor::{Hide, MoveTo, Show};
use crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use crossterm::style::{Attribute, Color, Print, ResetColor, SetAttribute, SetForegroundColor};
use crossterm::terminal::{self, Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen};
use crossterm::{execute, queue};

use self::frame::{Line, Symbols, Tone, render};
use crate::cli::args::TopArgs;
use crate::cli::output::print_text;
use crate::cli::status::fetch_status;
use crate::config::Config;
use crate::ops::admin::Status;

/// Shows the status of the running proxy until `q`, or prints it once. The exit code of `--once` is 0 only if the proxy
/// is ready.
pub async fn run(args: &TopArgs) -> anyhow::Result<ExitCode> {
    let config = Config::load(&args.files.config)?;
    let symbols = if is_utf8() { Symbols::BLOCKS } else { Symbols::ASCII };
    let first = fetch_status(&config.admin.address).await?;
    if args.once {
        let lines = render(&first, None, &symbols, ONCE_WIDTH);
        print_text(&lines.iter().map(|line| line.text.trim_end()).collect::<Vec<_>>().join("\n"))?;
        return Ok(if first.ready { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    let _screen = Screen::enter()?;
    let mut status = first;
    let mut problem = None;
    loop {
        draw(&status, problem.as_deref(), &symbols)?;
        match tokio::task::spawn_blocking(wait_for_key).await?? {
            Key::Quit => return Ok(ExitCode::SUCCESS),
            Key::Redraw => continue,
            Key::None => {}
        }
        match fetch_status(&config.admin.address).await {
            Ok(latest) => (status, problem) = (latest, None),
            // The proxy may be restarting.
            Err(error) => problem = Some(format!("{error:#}")),
        }
    }
}

enum Key {
    Quit,
    /// The size has changed, or another key was pressed.
    Redraw,
    /// The interval has passed.
    None,
}

fn wait_for_key() -> io::Result<Key> {
    if !event::poll(INTERVAL)? {
        return Ok(Key::None);
    }
    Ok(match event::read()? {
        Event::Key(key) if key.kind == KeyEventKind::Press => match key.code {
            KeyCode::Char('q') | KeyCode::Esc => Key::Quit,
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => Key::Quit,
            _ => Key::Redraw,
        },
        _ => Key::Redraw,
    })
}

/// The terminal's alternate screen in raw mode; dropping it restores the terminal.
struct Screen;

impl Screen {
    fn enter() -> io::Result<Self> {
        terminal::enable_raw_mode()?;
        let screen = Self;
        execute!(io::stdout(), EnterAlternateScreen, Hide)?;
        Ok(screen)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that has closed cannot be restored.
        let _ = execute!(io::stdout(), Show, LeaveAlternateScreen);
        let _ = terminal::disable_raw_mode();
    }
}

fn draw(status: &Status, problem: Option<&str>, symbols: &Symbols) -> io::Result<()> {
    let (width, height) = terminal::size()?;
    let mut out = io::stdout().lock();
    let lines = render(status, problem, symbols, usize::from(width));
    for (row, line) in (0..height).zip(lines.iter().map(Some).chain(std::iter::repeat(None))) {
        queue!(out, MoveTo(0, row), Clear(ClearType::CurrentLine))?;
        if let Some(Line { text, tone }) = line {
            match tone {
                Tone::Plain => {}
                Tone::Title => queue!(out, SetAttribute(Attribute::Bold))?,
                Tone::Good => queue!(out, SetAttribute(Attribute::Bold), SetForegroundColor(Color::Green))?,
                Tone::Bad => queue!(out, SetAttribute(Attribute::Bold), SetForegroundColor(Color::Red))?,
            }
            queue!(out, Print(text), ResetColor, SetAttribute(Attribute::Reset))?;
        }
    }
    out.flush()
}

/// Returns whether the terminal's locale shows Unicode.
fn is_utf8() -> bool {
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].iter().find_map(|name| env::var(name).ok().filter(|it| !it.is_empty()));
    locale.is_some_and(|locale| locale.to_ascii_lowercase().replace('-', "").contains("utf8"))
}

/// The interval between two updates.
const INTERVAL: Duration = Duration::from_secs(2);
/// The width of a frame that is printed, which is not that of a terminal.
const ONCE_WIDTH: usize = 80;
