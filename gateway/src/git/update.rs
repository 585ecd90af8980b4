//! What a push wants to change, and what that means: which labels it deploys, what is refused before anything moves, and
//! what the client is told. Pure.

use std::collections::BTreeSet;
use std::sync::Arc;

use git2::Oid;
use magrathea_core::diagnostics::Diagnostics;
use magrathea_core::manifest::{MAIN_BRANCHES, Manifest, Resolved};
use magrathea_core::names::LabelName;

/// One reference that is to change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Update {
    /// None: it is new.
    pub old: Option<Oid>,
    /// None: it is to go.
    pub new: Option<Oid>,
    /// As in `refs/heads/main`.
    pub name: String,
}

/// What a commit's manifest says.
#[derive(Debug, Clone)]
pub enum Says {
    /// There is no commit.
    Nothing,
    Manifest(Arc<Manifest>),
    Broken(Arc<Diagnostics>),
}

/// An update with what is known of it.
#[derive(Debug, Clone)]
pub struct Fact {
    pub update: Update,
    /// Where the reference is now.
    pub current: Option<Oid>,
    /// Whether the new object is a commit.
    pub is_commit: bool,
    /// What the branch's commits say, before and after.
    pub before: Says,
    pub after: Says,
    /// Whether commits leave the branch.
    pub rewritten: bool,
    /// A branch that must go first, because the one's name is a folder of the other's.
    pub in_the_way: Option<String>,
}

/// All that a push is judged by.
#[derive(Debug, Clone)]
pub struct Facts {
    pub facts: Vec<Fact>,
    /// The branch that a clone checks out, and whether it exists.
    pub head: String,
    pub head_exists: bool,
    /// The app's previews: the branch of each, and its label.
    pub previews: Vec<(String, LabelName)>,
}

/// What a push comes to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Meaning {
    /// What is deployed: a branch's commit under its labels.
    pub deploy: Option<(String, Oid, Vec<LabelName>)>,
    /// Labels that one must be allowed to deploy: those of the branches, before and after.
    pub rights: BTreeSet<LabelName>,
    /// Previews whose branch is to go.
    pub end: BTreeSet<LabelName>,
    pub notes: Vec<String>,
    /// The branch that a clone is to check out from now on.
    pub head: Option<String>,
}

/// Why a push is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    pub message: String,
    pub hint: Option<String>,
    /// Shown below the message as it stands.
    pub details: Vec<String>,
}

impl Refusal {
    pub fn new(message: impl Into<String>) -> Self {
        Refusal { message: message.into(), hint: None, details: Vec::new() }
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// As the client is told, line by line.
    pub fn tell(&self) -> String {
        let details: String = self.details.iter().map(|line| format!("       {line}\n")).collect();
        let hint = self.hint.as_ref().map(|hint| format!("hint: {hint}\n")).unwrap_or_default();
        format!("error: {self}\n{details}{hint}")
    }
}

/// More notes than this are counted, not shown.
const NOTES: usize = 20;

/// Reads the lines that git gives a `pre-receive` hook: old, new, name.
pub fn parse_updates<'a>(lines: impl Iterator<Item = &'a str>) -> Result<Vec<Update>, Refusal> {
    let bad = |line: &str| Refusal::new(format!("git said something that is not understood: {line:?}"));
    let object = |text: &str| Oid::from_str(text).ok().map(|oid| Some(oid).filter(|oid| !oid.is_zero()));
    lines
        .map(|line| {
            let mut words = line.splitn(3, ' ');
            match (words.next().and_then(object), words.next().and_then(object), words.next()) {
                (Some(old), Some(new), Some(name)) => Ok(Update { old, new, name: name.to_owned() }),
                _ => Err(bad(line)),
            }
        })
        .collect()
}

/// The short form of a commit's id.
pub fn short(oid: Oid) -> String {
    oid.to_string().chars().take(7).collect()
}

/// Judges a push. What git itself would refuse only after the decision is refused here, so that nothing is deployed
/// whose branch then stays where it was.
pub fn weigh(facts: &Facts) -> Result<Meaning, Refusal> {
    let mut meaning = Meaning { head: choose_head(facts), ..Meaning::default() };
    let mut deploys: Vec<(String, Oid, Vec<LabelName>)> = Vec::new();
    for fact in &facts.facts {
        let Update { new, name, .. } = &fact.update;
        if fact.current != fact.update.old {
            return Err(Refusal::new(format!("{} has moved while this push waited", plain(name)))
                .hint("git fetch, look at what came, and push again"));
        }
        if let Some(branch) = name.strip_prefix("refs/heads/") {
            if let Some(deploy) = weigh_branch(facts, fact, branch, &mut meaning)? {
                deploys.push(deploy);
            }
        } else if let Some(tag) = name.strip_prefix("refs/tags/") {
            meaning.notes.push(match new {
                Some(_) => format!("the tag {tag} is stored; tags deploy nothing"),
                None => format!("the tag {tag} is gone"),
            });
        } else {
            return Err(Refusal::new(format!("{name} is neither a branch nor a tag; nothing else is kept here")));
        }
    }
    if deploys.len() > 1 {
        let all = deploys.iter().map(|(branch, _, labels)| format!("{branch} → {}", list(labels)));
        let all = all.collect::<Vec<_>>().join(", ");
        return Err(Refusal::new(format!("this push would deploy several branches: {all}"))
            .hint("push them one by one, so that each is accepted or refused by how its own deploy ends"));
    }
    meaning.deploy = deploys.pop();
    if meaning.notes.len() > NOTES {
        let rest = meaning.notes.len() - NOTES;
        meaning.notes.truncate(NOTES);
        meaning.notes.push(format!("and {rest} more"));
    }
    Ok(meaning)
}

fn weigh_branch(
    facts: &Facts,
    fact: &Fact,
    branch: &str,
    meaning: &mut Meaning,
) -> Result<Option<(String, Oid, Vec<LabelName>)>, Refusal> {
    let before = labels(&fact.before, branch);
    meaning.rights.extend(before.iter().cloned());
    let Some(new) = fact.update.new else {
        if facts.head_exists && facts.head == branch {
            return Err(Refusal::new(format!("{branch} is the branch that a clone checks out; it cannot be deleted")));
        }
        let of_branch = facts.previews.iter().filter(|(of, _)| of == branch).map(|(_, label)| label.clone());
        let previews: BTreeSet<LabelName> = of_branch.collect();
        let rest: Vec<LabelName> = before.iter().filter(|label| stays(&fact.before, label)).cloned().collect();
        let rest = if rest.is_empty() { String::new() } else { format!("; {} serves on", list(&rest)) };
        meaning.notes.push(format!("the branch {branch} is gone{rest}"));
        meaning.rights.extend(previews.iter().cloned());
        meaning.end.extend(previews);
        return Ok(None);
    };
    if !git2::Reference::is_valid_name(&fact.update.name) {
        return Err(Refusal::new(format!("{branch:?} is not a name for a branch")));
    }
    if !fact.is_commit {
        return Err(Refusal::new(format!("{branch} is to be a branch, but {} is no commit", short(new))));
    }
    if fact.rewritten
        && let Some(old) = fact.update.old
    {
        meaning.notes.push(format!("{branch} is rewritten: {} → {}", short(old), short(new)));
    }
    let after = match &fact.after {
        Says::Broken(findings) if MAIN_BRANCHES.contains(&branch) || !before.is_empty() => {
            let mut refusal = Refusal::new(format!("the magrathea.yml of {branch} has mistakes"));
            refusal.details = findings.to_string().lines().map(str::to_owned).collect();
            return Err(refusal);
        }
        Says::Broken(_) => {
            meaning.notes.push(format!("{branch} is stored; its magrathea.yml has mistakes, so nothing is deployed"));
            return Ok(None);
        }
        says => labels(says, branch),
    };
    meaning.rights.extend(after.iter().cloned());
    if after.is_empty() {
        meaning.notes.push(format!("{branch} is stored and not deployed: {}", followers(&fact.after)));
        return Ok(None);
    }
    if let Some(other) = &fact.in_the_way {
        return Err(Refusal::new(format!("there is a branch {other}, so there cannot be a branch {branch}"))
            .hint(format!("delete {other} first: git push magrathea :{other}")));
    }
    Ok(Some((branch.to_owned(), new, after)))
}

/// What the commit that a branch is to have says of a label.
pub fn resolve(facts: &Facts, branch: &str, label: &LabelName) -> Option<Resolved> {
    let name = format!("refs/heads/{branch}");
    let fact = facts.facts.iter().find(|fact| fact.update.name == name)?;
    match &fact.after {
        Says::Manifest(manifest) => manifest.label_for(Some(label.as_str()), Some(branch)).ok(),
        Says::Nothing | Says::Broken(_) => None,
    }
}

fn labels(says: &Says, branch: &str) -> Vec<LabelName> {
    match says {
        Says::Manifest(manifest) => manifest.labels_of_branch(branch),
        Says::Nothing | Says::Broken(_) => Vec::new(),
    }
}

/// Whether a label is one of the file's own, which outlives its branch.
fn stays(says: &Says, label: &LabelName) -> bool {
    matches!(says, Says::Manifest(manifest) if manifest.labels.contains_key(label))
}

/// Which branches deploy, as a sentence.
fn followers(says: &Says) -> String {
    let Says::Manifest(manifest) = says else { return "no label follows it".into() };
    let mut labels = manifest.labels.values();
    if let (Some(only), None, true) = (labels.next(), labels.next(), manifest.patterns.is_empty())
        && only.branch.is_none()
    {
        return format!(
            "the label {} follows {} until magrathea.yml says `branch:`",
            only.label,
            MAIN_BRANCHES.join(" or ")
        );
    }
    let follow = |r: &Resolved| r.branch.as_ref().map(|branch| format!("{} follows {branch}", r.label));
    let patterns = manifest.patterns.values().map(|pattern| format!("{} follows {}", pattern.name, pattern.branches));
    let all: Vec<_> = manifest.labels.values().filter_map(follow).chain(patterns).collect();
    match all.as_slice() {
        [] => "no label of magrathea.yml has a `branch:`".into(),
        all => format!("in magrathea.yml {}", all.join(", ")),
    }
}

/// A clone of a repository that had no branch yet checks out one of those that came first.
fn choose_head(facts: &Facts) -> Option<String> {
    if facts.head_exists {
        return None;
    }
    let pushed = |fact: &Fact| fact.update.new.and(fact.update.name.strip_prefix("refs/heads/").map(str::to_owned));
    let pushed: Vec<String> = facts.facts.iter().filter_map(pushed).collect();
    let main = MAIN_BRANCHES.iter().find(|main| pushed.iter().any(|branch| branch == *main));
    main.map(|main| (*main).to_owned()).or_else(|| pushed.first().cloned()).filter(|branch| *branch != facts.head)
}

fn plain(name: &str) -> &str {
    name.strip_prefix("refs/heads/").or_else(|| name.strip_prefix("refs/tags/")).unwrap_or(name)
}

fn list(labels: &[LabelName]) -> String {
    labels.iter().map(LabelName::as_str).collect::<Vec<_>>().join(", ")
}
