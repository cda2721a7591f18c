//! Reading a serial console's log: clean text, searching, and what a kernel
//! says when it dies.

/// What the kernel or the initrd says once the initrd runs. A panic before any
/// of it can be the emulator's fault, one after it cannot.
const INITRD_RUNS: [&str; 4] = [
    "Run /init as init",
    "Booting initrd",
    "systemd[1]",
    "Welcome to ",
];

/// What no healthy boot says, wherever it stands in the log.
const KERNEL_TROUBLE: [&str; 7] = [
    "kernel BUG at",
    "BUG: ",
    "Kernel panic",
    "Oops: ",
    "Call Trace:",
    "WARNING: CPU:",
    "device-mapper: verity: ",
];

/// Lines that say `device-mapper: verity: ` and are no trouble.
const VERITY_NOISE: [&str; 2] = ["sha256 using", "verity: using"];

/// The text of a console log: no terminal control, no carriage returns.
pub fn clean(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut clean = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' => match chars.next() {
                // CSI: parameters, then one letter.
                Some('[') => {
                    while chars
                        .next()
                        .is_some_and(|c| !('\u{40}'..='\u{7e}').contains(&c))
                    {}
                }
                // OSC: up to BEL or ESC \.
                Some(']') => {
                    while let Some(c) = chars.next() {
                        if c == '\u{7}' {
                            break;
                        }
                        if c == '\u{1b}' {
                            chars.next();
                            break;
                        }
                    }
                }
                // A character set: one more character.
                Some('(' | ')' | '#' | '%') => {
                    chars.next();
                }
                _ => {}
            },
            '\n' | '\t' => clean.push(c),
            c if c.is_control() => {}
            c => clean.push(c),
        }
    }
    clean
}

/// Whether `log` says `wanted`, line breaks and indentation aside: a card on an
/// 80-column console is wrapped.
pub fn says(log: &str, wanted: &str) -> bool {
    log.contains(wanted) || squeeze(log).contains(&squeeze(wanted))
}

fn squeeze(text: &str) -> String {
    let mut squeezed = String::with_capacity(text.len());
    // The frame of a card counts as white space.
    for word in text.split(|c: char| c.is_whitespace() || ('\u{2500}'..='\u{257f}').contains(&c)) {
        if !word.is_empty() {
            squeezed.push_str(word);
            squeezed.push(' ');
        }
    }
    squeezed
}

/// Whether the kernel died before the initrd ran.
pub fn died_before_initrd(log: &str) -> bool {
    let panic = ["Kernel panic", "Oops: "]
        .iter()
        .filter_map(|text| log.find(text))
        .min();
    let initrd = INITRD_RUNS.iter().filter_map(|text| log.find(text)).min();
    match (panic, initrd) {
        (Some(panic), Some(initrd)) => panic < initrd,
        (Some(_), None) => true,
        (None, _) => false,
    }
}

/// Whether the initrd runs.
pub fn initrd_runs(log: &str) -> bool {
    INITRD_RUNS.iter().any(|text| log.contains(text))
}

/// What the kernel says when it was not let run for a while. On an emulated
/// machine that is the host's doing: it has fewer processors than work.
const STARVATION: [&str; 3] = ["soft lockup", "detected stalls", "self-detected stall"];

/// Lines that the kernel prints about one starvation, its call trace included.
const STARVATION_REPORT: usize = 80;

/// Lines in which the kernel complains about itself or the verified disk. On
/// an `emulated` machine, reports of starvation do not count.
pub fn kernel_trouble(log: &str, emulated: bool) -> Vec<&str> {
    let mut trouble = Vec::new();
    let mut excused = 0;
    for line in log.lines() {
        if emulated && STARVATION.iter().any(|text| line.contains(text)) {
            excused = STARVATION_REPORT;
            continue;
        }
        excused = excused.saturating_sub(1);
        let complains = KERNEL_TROUBLE.iter().any(|text| line.contains(text))
            && !VERITY_NOISE.iter().any(|text| line.contains(text));
        if complains && !(excused > 0 && line.contains("Call Trace:")) {
            trouble.push(line.trim());
        }
    }
    trouble
}

/// Lines about units that wait for each other in a circle.
pub fn ordering_cycles(log: &str) -> Vec<&str> {
    log.lines()
        .filter(|line| line.contains("ordering cycle"))
        .map(str::trim)
        .collect()
}

/// What systemd says when all goes well.
const ROUTINE: [&str; 6] = [
    "Starting ",
    "Stopping ",
    "Mounting ",
    "Unmounting ",
    "Expecting ",
    "[  OK  ]",
];

/// The last `count` lines that tell something.
pub fn last_words(log: &str, count: usize) -> Vec<&str> {
    let mut lines: Vec<&str> = log
        .lines()
        .rev()
        .map(str::trim_end)
        .filter(|line| {
            let text = line.trim_start();
            // systemd's animation: "[  *** ] (2 of 4) Job x/start running (17s / 90s)".
            let waiting =
                text.contains('*') && text.contains(" Job ") && text.contains(" running (");
            !text.is_empty() && !waiting && !ROUTINE.iter().any(|word| text.starts_with(word))
        })
        .take(count)
        .collect();
    lines.reverse();
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminal_control_is_dropped() {
        let raw = b"\x1b[2J\x1b[01;01H[\x1b[0;32m  OK  \x1b[0m] Started \x1b]8;;x\x07sf\x1b(B.\r\nnext\x1b[?2004l\n";
        assert_eq!(clean(raw), "[  OK  ] Started sf.\nnext\n");
    }

    #[test]
    fn wrapped_and_framed_text_is_found() {
        let log = "\u{2502} start the database and   \u{2502}\n\u{2502} try again               \u{2502}\n";
        assert!(says(log, "database and try again"));
        assert!(!says(log, "database or try again"));
    }

    #[test]
    fn an_early_panic_is_told_from_a_late_one() {
        let early = "[    2.1] Oops: int3: 0000\n[    2.2] Kernel panic - not syncing\n";
        let late = "[    5.0] systemd[1]: Booting\n[   17.0] Kernel panic - not syncing\n";
        assert!(died_before_initrd(early));
        assert!(!died_before_initrd(late));
        assert!(!died_before_initrd("[    0.0] Linux version 6.12\n"));
        assert_eq!(
            kernel_trouble(late, true),
            ["[   17.0] Kernel panic - not syncing"]
        );
    }

    #[test]
    fn starvation_counts_on_hardware_only() {
        let log =
            "watchdog: BUG: soft lockup - CPU#1 stuck for 23s! [x:403]\nCPU: 1\nCall Trace:\n";
        assert_eq!(kernel_trouble(log, false).len(), 2);
        assert!(kernel_trouble(log, true).is_empty());
        let more = format!(
            "{log}{}Call Trace:\nkernel BUG at x\n",
            "line\n".repeat(100)
        );
        assert_eq!(
            kernel_trouble(&more, true),
            ["Call Trace:", "kernel BUG at x"]
        );
    }

    #[test]
    fn verity_chatter_is_no_trouble_and_corruption_is() {
        let log = "device-mapper: verity: sha256 using shash \"sha256-ni\"\n\
                   device-mapper: verity: 254:2: data block 3051 is corrupted\n";
        assert_eq!(kernel_trouble(log, true).len(), 1);
    }

    #[test]
    fn last_words_leave_out_good_news() {
        let log = "a\n[  OK  ] Started x\n\n         Starting y...\nb\n\
                   [   ***] (2 of 4) Job x.device/start running (17s / 1min 30s)\nc\n";
        assert_eq!(last_words(log, 2), ["b", "c"]);
    }
}
