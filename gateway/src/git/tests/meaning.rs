//! What updates mean, as a table.

use std::sync::Arc;

use git2::Oid;
use magrathea_core::manifest::parse_manifest;

use super::super::update::{Fact, Facts, Says, parse_updates, weigh};

const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
const ZERO: &str = "0000000000000000000000000000000000000000";

fn says(text: &str) -> Says {
    match parse_manifest("magrathea.yml", text) {
        Ok((manifest, _)) => Says::Manifest(Arc::new(manifest)),
        Err(findings) => Says::Broken(Arc::new(findings)),
    }
}

/// Updates as git tells them, all with this manifest before and after.
fn facts(lines: &[&str], manifest: &str, head: Option<&str>) -> Facts {
    let updates = parse_updates(lines.iter().copied()).unwrap();
    let fact = |update: super::super::update::Update| Fact {
        current: update.old,
        is_commit: update.new.is_some(),
        before: if update.old.is_some() { says(manifest) } else { Says::Nothing },
        after: if update.new.is_some() { says(manifest) } else { Says::Nothing },
        rewritten: false,
        in_the_way: None,
        update,
    };
    let facts = updates.into_iter().map(fact).collect();
    Facts { facts, head: head.unwrap_or("main").into(), head_exists: head.is_some(), previews: Vec::new() }
}

fn told(facts: &Facts) -> String {
    match weigh(facts) {
        Err(refusal) => format!("refused: {refusal}"),
        Ok(meaning) => {
            let deploy = meaning.deploy.map_or_else(String::new, |(branch, _, labels)| {
                format!("{branch} to {}; ", labels.iter().map(|l| l.as_str()).collect::<Vec<_>>().join(" "))
            });
            let head = meaning.head.map_or_else(String::new, |head| format!("head {head}; "));
            format!("{deploy}{head}{}", meaning.notes.join("; "))
        }
    }
}

#[test]
fn updates_are_judged() {
    let two = "labels: {production: {branch: main}, staging: {branch: develop}}";
    let create = |name: &str| format!("{ZERO} {A} {name}");
    let mut out = String::new();
    for (manifest, head, lines) in [
        ("", None, vec![create("refs/heads/main")]),
        ("", None, vec![create("refs/heads/master"), create("refs/heads/topic")]),
        ("", None, vec![create("refs/heads/topic")]),
        ("", Some("main"), vec![format!("{A} {B} refs/heads/main")]),
        ("", Some("main"), vec![format!("{A} {ZERO} refs/heads/main")]),
        ("", Some("topic"), vec![format!("{A} {ZERO} refs/heads/main")]),
        (two, Some("main"), vec![create("refs/heads/develop"), create("refs/heads/x"), create("refs/tags/v1")]),
        (two, Some("main"), vec![create("refs/heads/develop"), create("refs/heads/main")]),
        ("labels: {a: {}, b: {}}", None, vec![create("refs/heads/main")]),
        ("labels: {a: {branch: live}}", None, vec![create("refs/heads/main")]),
        ("nonsense: 1", None, vec![create("refs/heads/main")]),
        ("nonsense: 1", None, vec![create("refs/heads/x")]),
        ("", None, vec![create("refs/heads/..")]),
        ("", None, vec![create("HEAD")]),
        ("", None, vec![create("refs/magrathea/x")]),
    ] {
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        out += &format!("{}\n", told(&facts(&lines, manifest, head)));
    }
    insta::assert_snapshot!(out);
}

#[test]
fn what_git_would_refuse_after_the_decision_is_refused_before_it() {
    let line = format!("{A} {B} refs/heads/main");
    let change = |change: &dyn Fn(&mut Fact)| {
        let mut facts = facts(&[&line], "", Some("main"));
        change(&mut facts.facts[0]);
        told(&facts)
    };
    insta::assert_snapshot!(
        [
            change(&|fact| fact.current = Some(Oid::from_str(B).unwrap())),
            change(&|fact| fact.is_commit = false),
            change(&|fact| fact.in_the_way = Some("main/x".into())),
            change(&|fact| fact.rewritten = true),
        ]
        .join("\n")
    );
    assert!(parse_updates(["x y z"].into_iter()).is_err());
    assert!(parse_updates([""].into_iter()).is_err());
}

#[test]
fn a_preview_goes_with_its_branch() {
    let manifest = r#"labels: {production: {branch: main}, "preview/*": {branch: feature/*}}"#;
    let made = facts(&[&format!("{ZERO} {A} refs/heads/feature/Login")], manifest, Some("main"));
    assert_eq!(told(&made), "feature/Login to preview-login; ");
    let mut gone = facts(&[&format!("{A} {ZERO} refs/heads/feature/Login")], manifest, Some("main"));
    // Whatever the file says by now: what is known to be of the branch goes, and takes the right to deploy it.
    gone.previews = vec![
        ("feature/Login".into(), "preview-login".parse().unwrap()),
        ("feature/Login".into(), "old-login".parse().unwrap()),
        ("feature/other".into(), "preview-other".parse().unwrap()),
    ];
    let meaning = weigh(&gone).unwrap();
    let labels = |labels: &std::collections::BTreeSet<magrathea_core::names::LabelName>| {
        labels.iter().map(|label| label.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(labels(&meaning.end), ["old-login", "preview-login"]);
    assert_eq!(labels(&meaning.rights), ["old-login", "preview-login"]);
    assert_eq!(meaning.notes, ["the branch feature/Login is gone"]);
    let stored = facts(&[&format!("{ZERO} {A} refs/heads/topic")], manifest, Some("main"));
    assert_eq!(
        told(&stored),
        "topic is stored and not deployed: in magrathea.yml production follows main, preview/* follows feature/*"
    );
}

#[test]
fn many_notes_are_counted() {
    let lines: Vec<String> = (0..100).map(|n| format!("{ZERO} {A} refs/tags/v{n}")).collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let meaning = weigh(&facts(&lines, "", None)).unwrap();
    assert_eq!(meaning.notes.len(), 21);
    assert_eq!(meaning.notes[20], "and 80 more");
}
