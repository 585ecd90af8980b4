//! What the end of a failed build's log means, where the cure does not stand in it.

const STALE_LOCK: &str = "composer.lock does not fit composer.json: run `composer update` and commit both";
const NOT_EXECUTABLE: &str = "a buildpack's programs must be executable: `git update-index --chmod=+x FILE`";
const NO_INTERPRETER: &str =
    "the builder image has no interpreter as its first line names it; docs/reference/buildpacks.md says what it holds";
const NO_MAVEN: &str = "builds on this cluster do not reach that Maven repository: name a mirror in .mvn/settings.xml \
                        and that file in .mvn/maven.config; see docs/reference/buildpacks.md";
const OFFLINE: &str = "builds on this cluster do not reach that host: take the package from a repository that they \
                       reach, or keep it in the source; see docs/reference/buildpacks.md";

/// Texts of the tools and what each asks for; the first that is found counts.
const KNOWN: [(&str, &str); 9] = [
    ("is not present in the lock file.", STALE_LOCK),
    ("but that does not satisfy your constraint", STALE_LOCK),
    ("/bin/detect: Permission denied", NOT_EXECUTABLE),
    ("/bin/build: Permission denied", NOT_EXECUTABLE),
    ("/bin/detect: not found", NO_INTERPRETER),
    ("/bin/build: not found", NO_INTERPRETER),
    ("Could not transfer artifact", NO_MAVEN),
    ("probably indicates you are offline", OFFLINE),
    ("Could not resolve host", OFFLINE),
];

/// A hint for the person whose build ended with these lines.
pub fn explain_failure(log_tail: &[String]) -> Option<String> {
    let says = |text: &str| log_tail.iter().any(|line| line.contains(text));
    KNOWN.iter().find(|(text, _)| says(text)).map(|(_, hint)| (*hint).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_failures_have_a_hint() {
        for (line, expect) in [
            (r#"- Required package "galaxy/fish" is not present in the lock file."#, Some("`composer update`")),
            ("/bin/sh: 1: ./pack/bin/build: Permission denied", Some("chmod=+x")),
            ("/bin/sh: 1: ./pack/bin/build: not found", Some("interpreter")),
            ("[ERROR] Could not transfer artifact a:b:pom:1 from/to central", Some(".mvn/settings.xml")),
            ("fatal: unable to access 'https://x/': Could not resolve host: x", Some("do not reach")),
            ("PHP Fatal error: no towel", None),
        ] {
            let hint = explain_failure(&["before".to_owned(), line.to_owned()]);
            assert_eq!(hint.is_some(), expect.is_some(), "{line}");
            assert!(hint.unwrap_or_default().contains(expect.unwrap_or_default()), "{line}");
        }
    }
}
