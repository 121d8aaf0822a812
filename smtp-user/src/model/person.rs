//! What people write down when they change something: who they are, and why.
//!
//! Contract: such text ends up in logs, on pages and on terminals, so it is one line of bounded length.

/// Who changes things where no person does. No person can have this name.
pub const SMTPFLOW: &str = "smtpflow";
/// Most characters of the name of a person.
pub const MAX_WHO: usize = 64;
/// Most characters of a reason.
pub const MAX_WHY: usize = 500;

/// Checks the name of somebody, or of [`SMTPFLOW`].
pub fn check_who(who: &str) -> Result<(), String> {
    check_line("the name of who changes it (who)", who, MAX_WHO)
}

/// Checks the name of a person.
pub fn check_person(who: &str) -> Result<(), String> {
    check_who(who)?;
    if who.trim().eq_ignore_ascii_case(SMTPFLOW) {
        return Err(format!(
            "{who:?} is what the agent itself is called (who): give the name of a person"
        ));
    }
    Ok(())
}

/// Checks a reason.
pub fn check_why(why: &str) -> Result<(), String> {
    check_line("the reason (why)", why, MAX_WHY)
}

/// Checks a line of text of at most so many characters; `what` is what it is.
pub fn check_line(what: &str, text: &str, most: usize) -> Result<(), String> {
    let length = text.chars().count();
    if text.trim().is_empty() || length > most {
        return Err(format!(
            "{what} is {length} characters long: expected 1 to {most}"
        ));
    }
    if text.contains(char::is_control) {
        return Err(format!(
            "{what} has control characters: expected one line of text"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_people_is_bounded_and_of_one_line() {
        let long = |number| "é".repeat(number);
        for (who, why, fits) in [
            (long(MAX_WHO), long(MAX_WHY), true),
            (long(MAX_WHO + 1), long(1), false),
            (long(1), long(MAX_WHY + 1), false),
            (" ".to_owned(), long(1), false),
            (long(1), String::new(), false),
            ("a\u{1b}[2J".to_owned(), long(1), false),
            (long(1), "a\nb".to_owned(), false),
        ] {
            let checked = check_person(&who).and_then(|()| check_why(&why));
            assert_eq!(checked.is_ok(), fits, "{who:?} {why:?}: {checked:?}");
        }
    }

    #[test]
    fn nobody_has_the_name_of_the_agent() {
        assert!(check_who(SMTPFLOW).is_ok());
        for who in [SMTPFLOW, " SMTPflow "] {
            assert!(check_person(who).is_err(), "{who:?}");
        }
        assert!(check_person("smtpflow-admin").is_ok());
    }
}
