//! The fleet as text, for a person: totals first, nodes that need somebody
//! first, as wide as the terminal; elsewhere nothing is cut.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::{Fleet, Member, State};
use crate::clock;
use crate::plain;

/// Between two columns.
const GAP: usize = 2;

/// Width of the labels at the left of what is no node.
const LABEL: usize = 11;

/// A name or an image's version is cut to no less than this.
const SHORTEST: usize = 12;

/// How it is shown.
#[derive(Clone, Copy, Debug, Default)]
pub struct Look {
    /// With colours.
    pub colour: bool,
    /// How many nodes are listed at most; `None` is all.
    pub nodes: Option<usize>,
    /// Columns of the terminal; `None` where there is none.
    pub width: Option<usize>,
}

impl Look {
    fn columns(self) -> usize {
        self.width.unwrap_or(usize::MAX)
    }
}

/// `1000 nodes: 997 ready, 2 waiting, 1 FAILED`.
pub fn totals(fleet: &Fleet) -> String {
    if fleet.nodes.is_empty() {
        return if fleet.bootstrapped {
            "no nodes: the cluster has been bootstrapped, and no node has joined it".into()
        } else {
            "no nodes: the cluster has not been bootstrapped".into()
        };
    }
    let counts: Vec<String> = State::ALL
        .iter()
        .rev()
        .map(|state| (fleet.count(*state), state.word()))
        .filter(|(count, _)| *count > 0)
        .map(|(count, word)| format!("{count} {word}"))
        .collect();
    let noun = if fleet.nodes.len() == 1 {
        "node"
    } else {
        "nodes"
    };
    format!("{} {noun}: {}", fleet.nodes.len(), counts.join(", "))
}

/// Everything, as lines; no control characters but those of colours.
pub fn render(fleet: &Fleet, look: Look) -> String {
    let mut text = totals(fleet);
    text.push_str("\n\n");
    let shown = look.nodes.unwrap_or(usize::MAX).min(fleet.nodes.len());
    let domain = common_domain(&fleet.nodes);
    let members = &fleet.nodes[..shown];
    if !members.is_empty() {
        text.push_str(&nodes(members, &domain, fleet.now, look));
        if shown < fleet.nodes.len() {
            let _infallible = writeln!(text, "and {} more", fleet.nodes.len() - shown);
        }
        if !domain.is_empty() {
            let _infallible = writeln!(text, "(names without {})", plain::line(&domain));
        }
        text.push('\n');
    }
    for (label, value) in facts(fleet) {
        let room = look.columns().saturating_sub(LABEL).max(LABEL);
        for (index, line) in wrapped(&plain::line(&value), room).iter().enumerate() {
            let label = if index == 0 { label } else { "" };
            let _infallible = writeln!(text, "{label:<10} {line}");
        }
    }
    text
}

fn nodes(members: &[Member], domain: &str, now: f64, look: Look) -> String {
    /// Left out where there is no room, the first one first: state, name and
    /// error are what the table is for.
    const DISPENSABLE: [usize; 5] = [5, 4, 2, 3, 6];
    const HEAD: [&str; 8] = [
        "STATE", "NODE", "ROLE", "SERIES", "IMAGE", "PHASE", "BOOTED", "ERROR",
    ];
    const NAME: usize = 1;
    const IMAGE: usize = 4;
    let mut rows: Vec<[String; 8]> = vec![HEAD.map(str::to_owned)];
    rows.extend(members.iter().map(|node| {
        [
            node.state.word().to_owned(),
            node.fqdn
                .strip_suffix(domain)
                .unwrap_or(&node.fqdn)
                .to_owned(),
            node.role.clone(),
            node.series.clone().unwrap_or_else(|| "-".into()),
            node.image_version.clone(),
            node.phase.clone(),
            clock::ago(node.last_boot, now),
            node.last_error.clone().unwrap_or_default(),
        ]
        .map(|cell| plain::line(&cell).into_owned())
    }));
    let mut widths: Vec<usize> = (0..HEAD.len())
        .map(|column| rows.iter().map(|row| row[column].chars().count()).max())
        .map(Option::unwrap_or_default)
        .collect();
    let surplus = |widths: &[usize]| {
        let shown = widths.iter().filter(|width| **width > 0).count();
        let total = widths.iter().sum::<usize>() + GAP * (shown - 1);
        total.saturating_sub(look.columns())
    };
    // A version says most where it begins, and all of it is in the JSON.
    let least = SHORTEST.min(widths[IMAGE]);
    widths[IMAGE] = widths[IMAGE].saturating_sub(surplus(&widths)).max(least);
    let names: Vec<String> = rows.iter().map(|row| row[NAME].clone()).collect();
    let (shortest, _) = shortened(&names, SHORTEST.min(widths[NAME]));
    let mut dispensable = DISPENSABLE.iter();
    loop {
        let surplus = surplus(&widths);
        if widths[NAME] >= shortest + surplus {
            widths[NAME] -= surplus;
            break;
        }
        let Some(column) = dispensable.next() else {
            widths[NAME] = shortest;
            break;
        };
        widths[*column] = 0;
    }
    let (width, names) = shortened(&names, widths[NAME]);
    widths[NAME] = width;
    for (row, name) in rows.iter_mut().zip(names) {
        row[NAME] = name;
    }
    // Whatever the terminal's width: up to its name a node is shown.
    let most = look.columns().max(widths[0] + GAP + width);
    let mut text = String::new();
    for (index, row) in rows.iter().enumerate() {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths).filter(|(_, width)| **width > 0) {
            let _infallible = write!(line, "{:<1$}", cut(cell, *width), width + GAP);
        }
        let line = cut(line.trim_end(), most);
        let paint = index
            .checked_sub(1)
            .and_then(|index| members.get(index))
            .filter(|_| look.colour)
            .and_then(|node| match node.state {
                State::Failed | State::Refused => Some("31"),
                State::Waiting | State::Booting => Some("33"),
                State::Started | State::Ready => None,
            });
        let _infallible = match paint {
            Some(paint) => writeln!(text, "\x1b[{paint}m{line}\x1b[0m"),
            None => writeln!(text, "{line}"),
        };
    }
    text
}

/// What there is besides the nodes.
fn facts(fleet: &Fleet) -> Vec<(&'static str, String)> {
    let mut facts = Vec::new();
    for slot in &fleet.series {
        let noun = if slot.nodes == 1 { "node" } else { "nodes" };
        facts.push((
            "series",
            format!(
                "{}, {} {noun}, in slot {} since {} (release {}, by {})",
                slot.series,
                slot.nodes,
                slot.slot,
                clock::at(slot.introduced_at),
                slot.release,
                slot.introduced_by
            ),
        ));
    }
    if fleet.series.len() == 1 {
        facts.push(("", "the other slot is free".into()));
    }
    for claim in &fleet.claims {
        facts.push((
            "role",
            format!(
                "{} is held by {} since {}",
                claim.role,
                claim.fqdn,
                clock::at(claim.claimed_at)
            ),
        ));
    }
    if let Some(maker) = &fleet.schema_maker {
        facts.push((
            "schema",
            format!(
                "being made by {} since {}",
                maker.fqdn,
                clock::at(maker.claimed_at)
            ),
        ));
    }
    let done = fleet.operations.len();
    let last = fleet
        .operations
        .iter()
        .max_by(|one, other| one.completed_at.total_cmp(&other.completed_at));
    facts.push((
        "bootstrap",
        match last {
            Some(last) => format!(
                "{}: {done} operations, the last by {}, {}",
                if fleet.bootstrapped {
                    "done"
                } else {
                    "NOT COMPLETE"
                },
                last.completed_by,
                clock::at(last.completed_at)
            ),
            None => "nothing has been done yet".into(),
        },
    ));
    for event in fleet.events.iter().take(3) {
        facts.push((
            "by hand",
            format!(
                "{} {} by {} on {}, {}",
                event.action,
                event.subject,
                event.by_user,
                event.by_host,
                clock::at(event.at)
            ),
        ));
    }
    facts.push(("database", fleet.server.clone()));
    facts
}

/// The domain that all names end in, with its dot; empty for fewer than two nodes.
fn common_domain(nodes: &[Member]) -> String {
    let domain = |name: &str| name.find('.').map(|dot| name[dot..].to_owned());
    let first = nodes.first().and_then(|node| domain(&node.fqdn));
    match first {
        Some(first)
            if nodes.len() > 1
                && nodes
                    .iter()
                    .all(|node| domain(&node.fqdn).as_ref() == Some(&first)) =>
        {
            first
        }
        _ => String::new(),
    }
}

/// Names cut to `width`, or to the next width at which no two become the same:
/// behind, or where they differ there, in the middle.
fn shortened(names: &[String], width: usize) -> (usize, Vec<String>) {
    let longest = names.iter().map(|name| name.chars().count()).max();
    for width in width..longest.unwrap_or_default() {
        for how in [cut, cut_inside] {
            let short: Vec<String> = names.iter().map(|name| how(name, width)).collect();
            if short.iter().collect::<BTreeSet<_>>().len() == names.len() {
                return (width, short);
            }
        }
    }
    (longest.unwrap_or_default().max(width), names.to_vec())
}

fn cut_inside(text: &str, width: usize) -> String {
    let count = text.chars().count();
    if count <= width {
        return text.to_owned();
    }
    let kept = width.saturating_sub(2);
    let head: String = text.chars().take(kept.div_ceil(2)).collect();
    let tail: String = text.chars().skip(count - kept / 2).collect();
    format!("{head}..{tail}")
}

fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let kept: String = text.chars().take(width.saturating_sub(2)).collect();
    format!("{kept}..")
}

/// Lines of at most `width`, broken between words.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let last = lines.len() - 1;
        if !lines[last].is_empty() && lines[last].chars().count() + 1 + word.chars().count() > width
        {
            lines.push(word.to_owned());
        } else {
            if !lines[last].is_empty() {
                lines[last].push(' ');
            }
            lines[last].push_str(word);
        }
    }
    lines
}

#[cfg(test)]
mod tests;
