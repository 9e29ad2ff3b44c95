//! How the files of a recording are called: a template of strftime(3), filled in by the clock alone.
//!
//! Nothing that came from outside can be in a name: neither a packet's time nor an interface. Which
//! files a template could have named is known, too, and others are never touched.

use jiff::fmt::strtime;
use jiff::tz::TimeZone;
use pcaphub_core::time::Timestamp;

/// A template for names: letters, digits, `. _ - + = @ , :` and conversions of strftime(3) for times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    text: String,
    stem: Vec<Part>,
    extension: String,
    zone: Zone,
}

/// Which time names are in, and days begin by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Zone {
    /// Coordinated universal time.
    Utc,
    /// This machine's.
    Local,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    /// A conversion, and what it yields.
    Time(char, Shape),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// So many digits, from the first number to the last.
    Digits(usize, u32, u32),
    /// Any number of digits.
    Number,
    /// One of these words.
    Word(&'static [&'static str]),
    /// `+0100`.
    Offset,
}

/// Conversions, and what they yield.
const CONVERSIONS: &[(char, Shape)] = &[
    ('Y', Shape::Digits(4, 0, 9999)),
    ('G', Shape::Digits(4, 0, 9999)),
    ('y', Shape::Digits(2, 0, 99)),
    ('m', Shape::Digits(2, 1, 12)),
    ('d', Shape::Digits(2, 1, 31)),
    ('H', Shape::Digits(2, 0, 23)),
    ('M', Shape::Digits(2, 0, 59)),
    ('S', Shape::Digits(2, 0, 60)),
    ('V', Shape::Digits(2, 1, 53)),
    ('j', Shape::Digits(3, 1, 366)),
    ('u', Shape::Digits(1, 1, 7)),
    ('s', Shape::Number),
    ('a', Shape::Word(DAYS)),
    ('b', Shape::Word(MONTHS)),
    ('z', Shape::Offset),
];

const DAYS: &[&str] = &["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
const MONTHS: &[&str] = &["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// The longest name without what is added to it; file systems take 255 octets.
const LONGEST: usize = 200;
/// What a file's name has behind it while it is written.
pub const PART: &str = ".part";

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// What it should be.
    pub fn parse(text: &str, zone: Zone) -> Result<Self, String> {
        let (stem_text, extension) = text.split_at(text.len() - extension_of(text).len());
        let mut stem = Vec::new();
        let spelt = stem_text.replace("%F", "%Y-%m-%d").replace("%T", "%H:%M:%S");
        let mut letters = spelt.chars();
        while let Some(letter) = letters.next() {
            if letter == '%' {
                stem.push(conversion(letters.next())?);
            } else if is_safe(letter) {
                match stem.last_mut() {
                    Some(Part::Text(text)) => text.push(letter),
                    _ => stem.push(Part::Text(letter.into())),
                }
            } else {
                return Err(format!(
                    "`{}` cannot be in a name; letters, digits, . _ - + = @ , : and times such as %Y-%m-%d can",
                    letter.escape_default()
                ));
            }
        }
        match stem.first() {
            None => return Err("it is a file name such as %Y-%m-%dT%H-%M-%S.pcapng".into()),
            Some(Part::Text(text)) if text.starts_with(['.', '-']) => {
                return Err("a name does not begin with `.` or `-`".into());
            }
            Some(_) => {}
        }
        if text.ends_with(PART) {
            return Err("files end in .part while they are written; give another extension".into());
        }
        if text.len() > LONGEST {
            return Err(format!("a name has {LONGEST} letters at most"));
        }
        Ok(Template { text: text.into(), stem, extension: extension.into(), zone })
    }

    /// As it was given; its extension says what is in the files.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What a file that is begun `now` is called, without number and extension; and by how many seconds
    /// its zone is ahead of UTC.
    pub fn stem(&self, now: Timestamp) -> (String, i32) {
        let zone = match self.zone {
            Zone::Utc => TimeZone::UTC,
            Zone::Local => TimeZone::system(),
        };
        let time = jiff::Timestamp::from_nanosecond(i128::from(now.nanos())).unwrap_or_default();
        let ahead = zone.to_offset(time).seconds();
        let time = jiff::ZonedDateTime::new(time, zone);
        let filled = self.stem.iter().map(|part| match part {
            Part::Text(text) => text.clone(),
            // Those that are allowed are all known to it.
            Part::Time(letter, _) => strtime::format(format!("%{letter}"), &time).unwrap_or_default(),
        });
        (filled.collect(), ahead)
    }

    /// The name of the `number`th file with this stem, from 1.
    pub fn name(&self, stem: &str, number: u32) -> String {
        match number {
            0 | 1 => format!("{stem}{}", self.extension),
            _ => format!("{stem}-{number}{}", self.extension),
        }
    }

    /// Which of the files with this stem it is; `None`: none.
    pub fn number(&self, name: &str, stem: &str) -> Option<u32> {
        match name.strip_suffix(&self.extension)?.strip_prefix(stem)? {
            "" => Some(1),
            rest => number(rest.strip_prefix('-')?),
        }
    }

    /// Whether a file of this recording could have this name.
    pub fn names(&self, name: &str) -> bool {
        self.stem_of(name).is_some()
    }

    /// Whether a file of this recording could have this name while it is written.
    pub fn names_part(&self, name: &str) -> bool {
        name.strip_suffix(PART).is_some_and(|name| self.names(name))
    }

    /// The stem and number of a file that could be of this recording.
    pub fn stem_of<'a>(&self, name: &'a str) -> Option<(&'a str, u32)> {
        let whole = name.strip_suffix(&self.extension)?;
        if matches(&self.stem, whole) {
            return Some((whole, 1));
        }
        let (stem, last) = whole.rsplit_once('-')?;
        Some((stem, number(last).filter(|_| matches(&self.stem, stem))?))
    }
}

/// The extension of a name, with that of its packing.
fn extension_of(text: &str) -> &str {
    let one = |text: &str| {
        let at = text.rfind('.').unwrap_or(text.len());
        let plain = at > 0 && text.get(at + 1..).is_some_and(|rest| rest.chars().all(char::is_alphanumeric));
        if plain { at } else { text.len() }
    };
    let last = one(text);
    let packed = [".gz", ".zst"].contains(&text.get(last..).unwrap_or_default());
    let at = if packed { one(text.get(..last).unwrap_or_default()) } else { last };
    text.get(at..).unwrap_or_default()
}

fn is_safe(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || "._-+=@,:".contains(letter)
}

fn conversion(letter: Option<char>) -> Result<Part, String> {
    let known = CONVERSIONS.iter().find(|(known, _)| Some(*known) == letter);
    known.map(|(letter, shape)| Part::Time(*letter, *shape)).ok_or_else(|| {
        let known: String = CONVERSIONS.iter().map(|(letter, _)| format!(" %{letter}")).collect();
        let letter = letter.map(|letter| letter.escape_default().to_string()).unwrap_or_default();
        format!("%{letter} is no time that a name can have; these are:{known} %F %T")
    })
}

/// A number as [`Template::name`] writes it.
fn number(digits: &str) -> Option<u32> {
    let plain = digits.bytes().all(|digit| digit.is_ascii_digit()) && !digits.starts_with('0');
    digits.parse().ok().filter(|number| plain && *number > 1)
}

/// Whether `text` could be what these parts yield.
fn matches(parts: &[Part], text: &str) -> bool {
    let Some((part, rest)) = parts.split_first() else { return text.is_empty() };
    let after = |word: &str| text.strip_prefix(word).is_some_and(|text| matches(rest, text));
    let digits = |from: usize, count: usize| {
        text.get(from..from + count).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_digit()))
    };
    match part {
        Part::Text(literal) => after(literal),
        Part::Time(_, Shape::Word(words)) => words.iter().any(|word| after(word)),
        Part::Time(_, Shape::Digits(count, first, last)) => digits(0, *count).is_some_and(|digits| {
            digits.parse().is_ok_and(|number: u32| (*first..=*last).contains(&number)) && after(digits)
        }),
        Part::Time(_, Shape::Offset) => {
            text.starts_with(['+', '-'])
                && digits(1, 4).is_some()
                && matches(rest, text.get(5..).unwrap_or_default())
        }
        // No second of this age or a later one has more digits.
        Part::Time(_, Shape::Number) => (1..=20).any(|count| digits(0, count).is_some_and(after)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-24 19:06:21 UTC.
    const NOW: Timestamp = Timestamp::from_nanos(1_795_547_181_000_000_000);

    fn template(text: &str) -> Template {
        Template::parse(text, Zone::Utc).unwrap()
    }

    #[test]
    fn names_are_filled_in_by_the_clock() {
        let named = |text: &str| {
            let template = template(text);
            template.name(&template.stem(NOW).0, 1)
        };
        assert_eq!(named("%Y-%m-%dT%H-%M-%SZ.pcapng.zst"), "2026-11-24T19-06-21Z.pcapng.zst");
        assert_eq!(named("x-%F_%T%z.pcap"), "x-2026-11-24_19:06:21+0000.pcap");
        assert_eq!(named("%s"), "1795547181");
        assert_eq!(named("eth0.%a-%b-%j.pcap"), "eth0.Tue-Nov-328.pcap");
        assert_eq!(named("x.pcap"), "x.pcap");
    }

    #[test]
    fn files_of_one_second_are_numbered_before_their_extension() {
        let template = template("%H%M.pcap.gz");
        let (stem, _) = template.stem(NOW);
        assert_eq!(template.name(&stem, 2), "1906-2.pcap.gz");
        assert_eq!(template.number("1906-2.pcap.gz", &stem), Some(2));
        assert_eq!(template.number("1906.pcap.gz", &stem), Some(1));
        for other in ["1906-02.pcap.gz", "1906-1.pcap.gz", "1906-x.pcap.gz", "1907.pcap.gz", "1906.pcap"] {
            assert_eq!(template.number(other, &stem), None, "{other}");
        }
    }

    #[test]
    fn it_knows_the_names_that_it_could_have_given_and_no_others() {
        let own = template("cap-%Y-%m-%dT%H-%M-%S%z.pcapng");
        for name in ["cap-2026-11-24T19-06-21+0000.pcapng", "cap-1999-01-01T00-00-00-0530-17.pcapng"] {
            assert!(own.names(name), "{name}");
        }
        for name in [
            "cap-2026-11-24T19-06-21+0000.pcap",
            "cap-2026-11-24T19-06-21+0000.pcapng.part",
            "cap-2026-11-24.pcapng",
            "xcap-2026-11-24T19-06-21+0000.pcapng",
            "cap-2026-11-24T19-06-21+0000-x.pcapng",
            "cap-2026-13-24T19-06-21+0000.pcapng",
            "cap-2026-00-24T19-06-21+0000.pcapng",
            "cap-2026-11-32T19-06-21+0000.pcapng",
            "cap-2026-11-24T24-06-21+0000.pcapng",
            "cap-２026-11-24T19-06-21+0000.pcapng",
            "thesis.pcapng",
            "",
        ] {
            assert!(!own.names(name), "{name}");
        }
        let seconds = template("%s-%S");
        assert_eq!(seconds.stem_of("1795547181-21-3"), Some(("1795547181-21", 3)));
        assert!(template("x.pcap").names("x-12.pcap"));
        assert!(template("%a-%b").names("Sun-Feb") && !template("%a-%b").names("abc-Feb"));
    }

    #[test]
    fn what_it_names_it_knows_again() {
        for text in ["%Y%m%d.pcap", "%s.pcapng", "%a%b%y-%V%G%u%j.pcap.zst", "a%zb%Hc%M", "x"] {
            let template = template(text);
            for nanos in [0, NOW.nanos(), 4_102_444_800_000_000_000] {
                let (stem, _) = template.stem(Timestamp::from_nanos(nanos));
                for number in [1, 2, 999_999] {
                    let name = template.name(&stem, number);
                    assert!(template.names(&name), "{text}: {name}");
                    assert_eq!(template.number(&name, &stem), Some(number));
                }
            }
        }
    }

    #[test]
    fn no_template_leaves_its_directory_or_hides() {
        let error = |text: &str| Template::parse(text, Zone::Utc).unwrap_err();
        for text in
            ["../x.pcap", "a/b.pcap", "/etc/passwd", "a b", "x\n", "x\u{1b}[2J", "ü.pcap", "a\\b", "$x"]
        {
            assert!(error(text).contains("cannot be in a name"), "{text}");
        }
        assert!(error(".hidden").contains("begin"));
        assert!(error("-rf.pcap").contains("begin"));
        assert!(error("x.pcap.part").contains(".part"));
        for text in ["%D.pcap", "%n", "%", "%c", "%%", "%Z", "%E"] {
            assert!(error(text).contains("no time that a name can have"), "{text}: {}", error(text));
        }
        assert!(error(&"x".repeat(201)).contains("200"));
        assert!(error("").contains("file name"));
        assert!(error(".pcap").contains("begin") || error(".pcap").contains("file name"));
    }
}
