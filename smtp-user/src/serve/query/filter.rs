//! The filter language: terms with white space between them, all of which must hold.
//!
//! Contract: one lexer and parser for every list; what can be asked is in the list's table of
//! [`Field`]s alone. A mistake has its position: the character of the filter's text, from 1, at which
//! what is wrong begins. A filter that is printed and parsed again is the same. What is not known of
//! a row (null) is neither less, equal nor more than anything.
#![forbid(unsafe_code)]

use std::cmp::Ordering;
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::model::period::rfc3339;
use crate::report::time::parse_time;

/// A kind of row, and what lists of it are filtered and sorted by.
pub(in crate::serve) trait Table: 'static {
    /// A row as it is looked at, before it is chosen.
    type Row<'a>;
    /// The fields, in the order in which they are told.
    const FIELDS: &'static [Field<Self>];
}

/// How a word's place in the order is got.
pub(in crate::serve) type Place<T> = for<'a> fn(&<T as Table>::Row<'a>) -> Option<u64>;

/// What a field of a row is, and how it is got.
pub(in crate::serve) enum Value<T: Table + ?Sized> {
    /// A count: `FIELD>N` and the like with a whole number. Sorts.
    Count(for<'a> fn(&T::Row<'a>) -> u64),
    /// A number that may have a fraction or be unknown: `FIELD>N`. Sorts, the unknown last.
    Number(for<'a> fn(&T::Row<'a>) -> Option<f64>),
    /// A time in milliseconds since 1970: `FIELD>2026-11-01`, also with a time of day. Sorts.
    Time(for<'a> fn(&T::Row<'a>) -> Option<u64>),
    /// At this time or later: `FIELD:2026-11-01`.
    Since(for<'a> fn(&T::Row<'a>) -> Option<u64>),
    /// One of some words: `FIELD:WORD`.
    Word {
        /// The words.
        words: &'static [&'static str],
        /// Whether the word of this number holds for the row.
        holds: for<'a> fn(&T::Row<'a>, usize) -> bool,
        /// Its place in the order, if it sorts.
        rank: Option<Place<T>>,
    },
    /// An address: `FIELD:ADDRESS`. Sorts.
    Address(for<'a> fn(&T::Row<'a>) -> IpAddr),
    /// An address or a prefix that is in another one: `FIELD:PREFIX`. Sorts.
    Net(for<'a> fn(&T::Row<'a>) -> IpNet),
}

/// Something that rows are filtered or sorted by.
pub(in crate::serve) struct Field<T: Table + ?Sized> {
    /// Its name in filters, and after `sort=`.
    pub(in crate::serve) name: &'static str,
    /// What it is.
    pub(in crate::serve) value: Value<T>,
}

impl<T: Table + ?Sized> Clone for Value<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: Table + ?Sized> Copy for Value<T> {}

impl<T: Table + ?Sized> Clone for Field<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: Table + ?Sized> Copy for Field<T> {}

/// How a row is placed: `u128` in order, after its class. 255 is what is not known.
pub(super) type Rank = (u8, u128);
const UNKNOWN: Rank = (u8::MAX, u128::MAX);

impl<T: Table + ?Sized> Field<T> {
    /// Whether it can stand after `sort=`.
    pub(super) const fn sorts(&self) -> bool {
        !matches!(self.value, Value::Since(_) | Value::Word { rank: None, .. })
    }

    /// The place of a row, lowest first; what is not known comes last in both directions.
    pub(super) fn rank(&self, row: &T::Row<'_>, ascending: bool) -> Rank {
        let rank = match self.value {
            Value::Count(get) => Some((0, u128::from(get(row)))),
            Value::Number(get) => get(row).map(|number| (0, ordered(number))),
            Value::Time(get) | Value::Since(get) => get(row).map(|time| (0, u128::from(time))),
            Value::Word { rank, .. } => rank
                .and_then(|rank| rank(row))
                .map(|rank| (0, u128::from(rank))),
            Value::Address(get) => Some(place(get(row))),
            Value::Net(get) => Some(place(get(row).network())),
        };
        match rank {
            None => UNKNOWN,
            Some(rank) if ascending => rank,
            Some((class, value)) => (1 - class, !value),
        }
    }

    /// How a term with it is written, for messages.
    pub(super) fn form(&self) -> String {
        let name = self.name;
        match &self.value {
            Value::Count(_) | Value::Number(_) => format!("{name}>N"),
            Value::Time(_) => format!("{name}>2026-11-01T12:00"),
            Value::Since(_) => format!("{name}:2026-11-01T12:00"),
            Value::Word { words, .. } => format!("{name}:{}", words.join("|")),
            Value::Address(_) => format!("{name}:ADDRESS"),
            Value::Net(_) => format!("{name}:PREFIX"),
        }
    }

    /// What may stand behind it, as a regular expression.
    fn pattern(&self) -> String {
        const COMPARE: &str = "(>=|<=|!=|>|<|=)";
        match &self.value {
            Value::Count(_) => format!("{COMPARE}[0-9]{{1,18}}"),
            Value::Number(_) => format!("{COMPARE}[0-9]{{1,15}}([.][0-9]{{1,6}})?"),
            Value::Time(_) => format!("{COMPARE}{TIME}"),
            Value::Since(_) => format!(":{TIME}"),
            Value::Word { words, .. } => format!(":({})", words.join("|")),
            Value::Address(_) => format!(":({IPV4}|{IPV6})"),
            Value::Net(_) => {
                format!(
                    ":({IPV4}(/([12]?[0-9]|3[0-2]))?|{IPV6}(/([1-9]?[0-9]|1[01][0-9]|12[0-8]))?)"
                )
            }
        }
    }
}

/// A day or a minute of it in a regular expression; less than everything that is understood.
const TIME: &str = "(19[7-9][0-9]|20[0-9]{2})-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])(T([01][0-9]|2[0-3]):[0-5][0-9])?";
/// IPv4 in a regular expression.
const IPV4: &str = "((25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])[.]){3}(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])";
/// IPv6 likewise: in full, or shortened once; somewhat less than everything that is understood.
const IPV6: &str = "(([0-9a-f]{1,4}:){7}[0-9a-f]{1,4}|([0-9a-f]{1,4}:){1,4}:([0-9a-f]{1,4}:){0,1}[0-9a-f]{1,4}|([0-9a-f]{1,4}:){1,6}:|::)";

/// A number's place in the order of numbers.
fn ordered(number: f64) -> u128 {
    let bits = number.to_bits();
    let turned = if bits >> 63 == 1 {
        !bits
    } else {
        bits | 1 << 63
    };
    u128::from(turned)
}

/// IPv4 before IPv6.
fn place(address: IpAddr) -> Rank {
    match address {
        IpAddr::V4(v4) => (0, u128::from(v4.to_bits())),
        IpAddr::V6(v6) => (1, v6.to_bits()),
    }
}

/// How a value is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    GreaterOrEqual,
    LessOrEqual,
    NotEqual,
    Greater,
    Less,
    Equal,
}

impl Comparison {
    /// Those of two characters first, since the others begin like them.
    const ALL: [Self; 6] = [
        Self::GreaterOrEqual,
        Self::LessOrEqual,
        Self::NotEqual,
        Self::Greater,
        Self::Less,
        Self::Equal,
    ];

    const fn text(self) -> &'static str {
        match self {
            Self::GreaterOrEqual => ">=",
            Self::LessOrEqual => "<=",
            Self::NotEqual => "!=",
            Self::Greater => ">",
            Self::Less => "<",
            Self::Equal => "=",
        }
    }

    const fn holds(self, ordering: Ordering) -> bool {
        match self {
            Self::GreaterOrEqual => ordering.is_ge(),
            Self::LessOrEqual => ordering.is_le(),
            Self::NotEqual => ordering.is_ne(),
            Self::Greater => ordering.is_gt(),
            Self::Less => ordering.is_lt(),
            Self::Equal => ordering.is_eq(),
        }
    }
}

/// What a field is held against.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Test {
    Count(Comparison, u64),
    Number(Comparison, f64),
    Time(Comparison, u64),
    Since(u64),
    Word(usize),
    Address(IpAddr),
    Net(IpNet),
}

/// A condition.
struct Term<T: Table> {
    field: &'static Field<T>,
    test: Test,
}

impl<T: Table> Term<T> {
    fn holds(&self, row: &T::Row<'_>) -> bool {
        match (&self.field.value, self.test) {
            (Value::Count(get), Test::Count(how, than)) => how.holds(get(row).cmp(&than)),
            (Value::Number(get), Test::Number(how, than)) => get(row)
                .and_then(|number| number.partial_cmp(&than))
                .is_some_and(|ordering| how.holds(ordering)),
            (Value::Time(get), Test::Time(how, than)) => {
                get(row).is_some_and(|time| how.holds(time.cmp(&than)))
            }
            (Value::Since(get), Test::Since(begin)) => get(row).is_some_and(|time| time >= begin),
            (Value::Word { holds, .. }, Test::Word(word)) => holds(row, word),
            (Value::Address(get), Test::Address(address)) => get(row) == address,
            (Value::Net(get), Test::Net(net)) => net.contains(&get(row)),
            // The parser makes no other.
            _ => false,
        }
    }
}

/// What is wrong in a filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::serve) struct Fault {
    /// The character at which it begins, from 1.
    pub(in crate::serve) position: usize,
    /// The term that it is in.
    pub(in crate::serve) term: String,
    /// What could stand there.
    pub(in crate::serve) allowed: String,
}

/// Conditions that a row must fulfil, all of them.
pub(in crate::serve) struct Filter<T: Table>(Vec<Term<T>>);

impl<T: Table> Default for Filter<T> {
    /// Everything.
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Table> Clone for Filter<T> {
    fn clone(&self) -> Self {
        let term = |term: &Term<T>| Term {
            field: term.field,
            test: term.test,
        };
        Self(self.0.iter().map(term).collect())
    }
}

impl<T: Table> fmt::Debug for Filter<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Filter({self})")
    }
}

impl<T: Table> PartialEq for Filter<T> {
    fn eq(&self, other: &Self) -> bool {
        let same = |(mine, other): (&Term<T>, &Term<T>)| {
            mine.field.name == other.field.name && mine.test == other.test
        };
        self.0.len() == other.0.len() && self.0.iter().zip(&other.0).all(same)
    }
}

impl<T: Table> Filter<T> {
    /// Reads a filter.
    ///
    /// # Errors
    ///
    /// What is wrong first, and where.
    pub(in crate::serve) fn parse(text: &str) -> Result<Self, Fault> {
        let mut terms = Vec::new();
        let mut position = 1;
        for piece in text.split(char::is_whitespace) {
            if !piece.is_empty() {
                terms.push(term(piece, position)?);
            }
            position += piece.chars().count() + 1;
        }
        Ok(Self(terms))
    }

    /// Whether every row does.
    pub(in crate::serve) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a row fulfils all of it.
    pub(in crate::serve) fn holds(&self, row: &T::Row<'_>) -> bool {
        self.0.iter().all(|term| term.holds(row))
    }

    /// Whether it looks at this field.
    pub(in crate::serve) fn uses(&self, field: &str) -> bool {
        self.0.iter().any(|term| term.field.name == field)
    }

    /// The terms that can be written, for messages and documentation.
    pub(in crate::serve) fn forms() -> String {
        let forms: Vec<_> = T::FIELDS.iter().map(Field::form).collect();
        format!(
            "terms with spaces between them, all of which must hold: {}; instead of > also >=, <, <=, \
             = and !=",
            forms.join(", ")
        )
    }

    /// What a filter looks like, as a regular expression (ECMA-262, as JSON Schema has it).
    pub(in crate::serve) fn pattern() -> String {
        let terms: Vec<_> = T::FIELDS
            .iter()
            .map(|field| format!("{}{}", field.name.replace('.', "[.]"), field.pattern()))
            .collect();
        let term = format!("({})", terms.join("|"));
        format!("^( *{term}( +{term})*)? *$")
    }
}

impl<T: Table> fmt::Display for Filter<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, Term { field, test }) in self.0.iter().enumerate() {
            if i != 0 {
                f.write_str(" ")?;
            }
            f.write_str(field.name)?;
            match (test, &field.value) {
                (Test::Count(how, number), _) => write!(f, "{}{number}", how.text())?,
                (Test::Number(how, number), _) => write!(f, "{}{number}", how.text())?,
                (Test::Time(how, time), _) => write!(f, "{}{}", how.text(), rfc3339(*time))?,
                (Test::Since(time), _) => write!(f, ":{}", rfc3339(*time))?,
                (Test::Word(word), Value::Word { words, .. }) => write!(f, ":{}", words[*word])?,
                (Test::Word(_), _) => {}
                (Test::Address(address), _) => write!(f, ":{address}")?,
                (Test::Net(net), _) => write!(f, ":{net}")?,
            }
        }
        Ok(())
    }
}

/// Reads the term that begins at this position.
fn term<T: Table>(piece: &str, position: usize) -> Result<Term<T>, Fault> {
    let fault = |rest: &str, allowed: String| Fault {
        position: position + piece.chars().count() - rest.chars().count(),
        term: piece.to_owned(),
        allowed,
    };
    let end = piece.find([':', '>', '<', '=', '!']).unwrap_or(piece.len());
    let (name, rest) = piece.split_at(end);
    let Some(field) = T::FIELDS.iter().find(|field| field.name == name) else {
        return Err(fault(piece, Filter::<T>::forms()));
    };
    let colon = || {
        rest.strip_prefix(':')
            .ok_or_else(|| fault(rest, field.form()))
    };
    let compared = || {
        let found = Comparison::ALL
            .into_iter()
            .find_map(|how| Some((how, rest.strip_prefix(how.text())?)));
        found.ok_or_else(|| {
            fault(
                rest,
                format!("{} or another of >=, <, <=, =, !=", field.form()),
            )
        })
    };
    let time = |text: &str| parse_time(text).map_err(|error| fault(text, error));
    let test = match &field.value {
        Value::Count(_) => {
            let (how, text) = compared()?;
            let number = whole(text).ok_or_else(|| fault(text, "a whole number".to_owned()))?;
            Test::Count(how, number)
        }
        Value::Number(_) => {
            let (how, text) = compared()?;
            let number = decimal(text)
                .ok_or_else(|| fault(text, "a number such as 100 or 0.5".to_owned()))?;
            Test::Number(how, number)
        }
        Value::Time(_) => {
            let (how, text) = compared()?;
            Test::Time(how, time(text)?)
        }
        Value::Since(_) => Test::Since(time(colon()?)?),
        Value::Word { words, .. } => {
            let text = colon()?;
            let found = words.iter().position(|word| *word == text);
            Test::Word(found.ok_or_else(|| fault(text, field.form()))?)
        }
        Value::Address(_) => {
            let text = colon()?;
            let address: Option<IpAddr> = text.parse().ok();
            let address = address
                .ok_or_else(|| fault(text, "an IPv4 or IPv6 address, no name".to_owned()))?;
            Test::Address(address.to_canonical())
        }
        Value::Net(_) => {
            let text = colon()?;
            let net: Option<IpNet> = text.parse().ok().or_else(|| {
                text.parse::<IpAddr>()
                    .ok()
                    .map(|ip| ip.to_canonical().into())
            });
            let allowed = "PREFIX: one such as 192.0.2.0/24 or 2001:db8::/32, or an address";
            Test::Net(net.ok_or_else(|| fault(text, allowed.to_owned()))?)
        }
    };
    Ok(Term { field, test })
}

/// A number without sign, fraction and exponent.
fn whole(text: &str) -> Option<u64> {
    let digits = text.bytes().all(|octet| octet.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

/// One that may have a fraction.
fn decimal(text: &str) -> Option<f64> {
    let (before, after) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |part: &str| {
        !part.is_empty() && part.len() <= 18 && part.bytes().all(|octet| octet.is_ascii_digit())
    };
    (digits(before) && digits(after))
        .then(|| text.parse().ok())
        .flatten()
}
