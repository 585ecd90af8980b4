//! What people type at an instance's doors: prompts, and command lines put together from words.

use crate::names::{AppName, LabelName};

/// The label that is protected unless the manifest says otherwise.
const PROTECTED: &str = "production";

/// Whether a label is protected when the manifest does not say.
pub fn is_protected_by_default(label: &LabelName) -> bool {
    label.as_str() == PROTECTED
}

/// Bash's prompt at an instance, as in `blog staging:~$`; red where the label is protected.
pub fn prompt(app: &AppName, label: &LabelName, protected: bool) -> String {
    // Red for what visitors see, green for the rest.
    let colour = if protected { "1;31" } else { "32" };
    format!(r"\[\e[{colour}m\]{app} {label}\[\e[0m\]:\w\$ ")
}

/// The mariadb client's prompt.
pub fn database_prompt(app: &AppName, label: &LabelName) -> String {
    format!("{app} {label} [\\d]> ")
}

/// A command line that a shell takes apart into these words again. One word alone is a command line already.
pub fn command_line(words: &[String]) -> String {
    match words {
        [line] => line.clone(),
        words => words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" "),
    }
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stay_words() {
        let line = |words: &[&str]| command_line(&words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>());
        for (words, expected) in [
            (&["php -v | head -1"][..], "php -v | head -1"),
            (&["php", "-r", "echo 'a  b';"], r"php -r 'echo '\''a  b'\'';'"),
            (&["ls", "", "*"], "ls '' '*'"),
            (&[], ""),
        ] {
            assert_eq!(line(words), expected);
        }
    }

    #[test]
    fn the_prompt_is_red_where_it_matters() {
        let (app, label) = ("blog".parse().unwrap(), "production".parse().unwrap());
        assert_eq!(prompt(&app, &label, true), r"\[\e[1;31m\]blog production\[\e[0m\]:\w\$ ");
        assert!(prompt(&app, &label, false).contains("32m"));
        assert!(is_protected_by_default(&label));
    }
}
