//! The table that is kept up to date, in the manner of mtr.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Result;
use perpacket_path::{Hop, Running, Trace, TraceConfig, TraceEvent, TraceReport};
use ratatui::{
    Frame,
    layout::{Alignment, Constraint, Layout},
    style::{Color, Modifier, Style},
    text::{Line, Text},
    widgets::{Cell, Row, Table},
};
use tokio::time::{MissedTickBehavior, interval};

use super::{Text as Plain, rows};
use crate::{
    exit::Outcome,
    measure::{Measured, Show as _, explain},
    output::{
        Align,
        live::{Key, Screen, has_colours},
    },
};

/// How often it is drawn at most.
const REDRAW: Duration = Duration::from_millis(100);

/// What the keys do.
const KEYS: &str = "q ends · r begins anew · n names";

/// From which loss on a hop is shown in red.
const BAD: f64 = 0.1;

/// What is shown.
struct View {
    title: String,
    hops: BTreeMap<u8, Hop>,
    round: u32,
    news: String,
    /// Whether the server has ever answered, also before it began anew.
    is_reached: bool,
    names: bool,
    colours: bool,
}

/// Draws until somebody has seen enough, and prints the table then.
pub(super) async fn run(measured: &mut Measured, config: TraceConfig) -> Result<Outcome> {
    let begin = || Trace::new(measured.prober.clone(), config.clone()).start();
    let mut running = begin();
    let mut view = View {
        title: format!("perpacket trace {}", measured.client.url()),
        hops: BTreeMap::new(),
        round: 0,
        news: String::new(),
        is_reached: false,
        names: true,
        colours: has_colours(),
    };
    let lost = measured.client.lost();
    tokio::pin!(lost);
    let (mut is_lost, mut is_over, mut is_changed) = (false, false, true);
    let mut redraw = interval(REDRAW);
    redraw.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut screen = Screen::open()?;
    loop {
        tokio::select! {
            event = running.next(), if !is_over => {
                is_changed = true;
                match event {
                    Some(event) => view.take(event),
                    // All rounds are done, or it has failed.
                    None if config.rounds.is_some() => break,
                    None => is_over = true,
                }
            }
            key = screen.key() => match key {
                Key::End | Key::Letter('q') => break,
                Key::Letter('r') => {
                    running = begin();
                    is_over = false;
                    view.forget();
                    is_changed = true;
                }
                Key::Letter('n') => {
                    view.names = !view.names;
                    is_changed = true;
                }
                Key::Letter(_) => {}
                Key::Resized => is_changed = true,
            },
            () = measured.interrupt.asked() => break,
            () = &mut lost => {
                is_lost = true;
                break;
            }
            _ = redraw.tick(), if is_changed => {
                screen.draw(|frame| view.draw(frame))?;
                is_changed = false;
            }
        }
        if is_over {
            break;
        }
    }
    let report = end(running).await;
    drop(screen);
    let report = report?;
    Plain::default().report(&report)?;
    if is_lost {
        eprintln!("The connection was lost.");
        return Ok(Outcome::NotReached);
    }
    Ok(if view.is_reached && report.interrupted.is_none() {
        Outcome::Done
    } else {
        Outcome::NotReached
    })
}

async fn end(running: Running<TraceEvent, TraceReport>) -> Result<TraceReport> {
    running.stop();
    running.finish().await.map_err(explain)
}

impl View {
    fn take(&mut self, event: TraceEvent) {
        match event {
            TraceEvent::Hop(hop) => {
                self.is_reached |= hop.peer;
                if hop.peer {
                    self.hops.retain(|ttl, _| *ttl < hop.ttl);
                }
                self.hops.insert(hop.ttl, *hop);
            }
            TraceEvent::Picture { hops, .. } => {
                self.is_reached |= hops.iter().any(|hop| hop.peer);
                self.hops = hops.into_iter().map(|hop| (hop.ttl, hop)).collect();
            }
            TraceEvent::Round { number } => self.round = number,
            TraceEvent::Changed { ttl, from, to } => {
                self.news = format!("hop {ttl} was {from} and is {to}");
            }
            TraceEvent::Moved { local, remote } => {
                self.forget();
                self.news = format!("ICE has moved: {local} → {remote}");
            }
            _ => {}
        }
    }

    fn forget(&mut self) {
        self.hops.clear();
        self.round = 0;
        self.news.clear();
    }

    fn draw(&self, frame: &mut Frame<'_>) {
        let [title, table, foot] = Layout::vertical([
            Constraint::Length(1),
            Constraint::Min(0),
            Constraint::Length(1),
        ])
        .areas(frame.area());
        let bold = Style::new().add_modifier(Modifier::BOLD);
        let text = format!("{}   round {}   {KEYS}", self.title, self.round);
        frame.render_widget(Line::styled(text, bold), title);
        frame.render_widget(self.table(), table);
        frame.render_widget(Line::raw(self.news.as_str()), foot);
    }

    fn table(&self) -> Table<'_> {
        let hops: Vec<Hop> = self.hops.values().cloned().collect();
        let rows = rows::rows(&hops, self.names);
        let width = |column: usize| {
            let cells = rows.iter().map(|row| row[column].chars().count());
            let widest = cells.max().unwrap_or_default();
            widest.max(rows::COLUMNS[column].0.chars().count())
        };
        // The notes take what is left.
        let widths = (0..rows::COLUMNS.len()).map(|column| {
            if column + 1 == rows::COLUMNS.len() {
                Constraint::Min(0)
            } else {
                Constraint::Length(u16::try_from(width(column)).unwrap_or(u16::MAX))
            }
        });
        let header = rows::COLUMNS.map(|(name, align)| cell(name.to_owned(), align));
        let header = Row::new(header).style(Style::new().add_modifier(Modifier::REVERSED));
        let body = rows.iter().map(|row| {
            let cells = row.iter().zip(rows::COLUMNS);
            let cells = cells.map(|(text, (_, align))| cell(text.clone(), align));
            Row::new(cells.collect::<Vec<_>>()).style(self.style(&row[0]))
        });
        Table::new(body.collect::<Vec<_>>(), widths.collect::<Vec<_>>())
            .header(header)
            .column_spacing(2)
    }

    /// Of the hop with this TTL: by what the path loses up to there, not by what the router does not answer.
    fn style(&self, ttl: &str) -> Style {
        let hop = ttl.parse().ok().and_then(|ttl: u8| self.hops.get(&ttl));
        let Some(hop) = hop.filter(|_| self.colours) else {
            return Style::new();
        };
        match hop.path_loss {
            _ if hop.silent => Style::new().fg(Color::DarkGray),
            Some(loss) if loss >= BAD => Style::new().fg(Color::Red),
            Some(loss) if loss > 0.0 => Style::new().fg(Color::Yellow),
            _ => Style::new(),
        }
    }
}

fn cell(text: String, align: Align) -> Cell<'static> {
    Cell::new(Text::from(text).alignment(match align {
        Align::Left => Alignment::Left,
        Align::Right => Alignment::Right,
    }))
}
