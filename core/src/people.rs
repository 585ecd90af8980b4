//! What a person may do, and where: verbs, roles, grants, and the one function that decides.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::names::{AppId, LabelName, NameError, OrganisationId};
use crate::previews::LabelPattern;

/// What somebody wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verb {
    /// See apps, instances, deploys, logs and the timeline; clone and fetch.
    Look,
    /// Deploy, push, cancel, set values.
    Deploy,
    /// Shells, one-off commands, database clients, tunnels, files, drains, new passwords.
    Operate,
    /// Make and destroy, share, and decide who may do what.
    Administer,
    /// See usage and prices; everywhere: close months and adjust what is charged.
    Costs,
}

impl Verb {
    pub const ALL: [Verb; 5] = [Verb::Look, Verb::Deploy, Verb::Operate, Verb::Administer, Verb::Costs];

    /// As in "you may not deploy it".
    pub fn as_str(self) -> &'static str {
        match self {
            Verb::Look => "look",
            Verb::Deploy => "deploy",
            Verb::Operate => "operate",
            Verb::Administer => "administer",
            Verb::Costs => "costs",
        }
    }

    /// The least role that may.
    pub fn least_role(self) -> Role {
        match self {
            Verb::Look => Role::Viewer,
            Verb::Deploy => Role::Developer,
            Verb::Operate => Role::Operator,
            Verb::Administer => Role::Administrator,
            Verb::Costs => Role::Accountant,
        }
    }
}

/// A role. Each contains those before it, but for the accountant, who sees costs alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    Accountant,
    Viewer,
    Developer,
    Operator,
    Administrator,
}

impl Role {
    pub const ALL: [Role; 5] = [Role::Viewer, Role::Developer, Role::Operator, Role::Administrator, Role::Accountant];

    /// The role's name as written everywhere.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Accountant => "accountant",
            Role::Viewer => "viewer",
            Role::Developer => "developer",
            Role::Operator => "operator",
            Role::Administrator => "administrator",
        }
    }

    pub fn may(self, verb: Verb) -> bool {
        match verb {
            Verb::Look => self >= Role::Viewer,
            Verb::Deploy => self >= Role::Developer,
            Verb::Operate => self >= Role::Operator,
            Verb::Administer => self == Role::Administrator,
            Verb::Costs => matches!(self, Role::Administrator | Role::Accountant),
        }
    }

    /// The role that may what both may; none when that is nothing.
    pub fn meet(self, other: Role) -> Option<Role> {
        match (self, other) {
            (Role::Accountant, Role::Accountant | Role::Administrator) | (Role::Administrator, Role::Accountant) => {
                Some(Role::Accountant)
            }
            (Role::Accountant, _) | (_, Role::Accountant) => None,
            (one, two) => Some(one.min(two)),
        }
    }
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

impl std::str::FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Role::ALL.into_iter().find(|role| role.as_str() == text).ok_or_else(|| {
            let all: Vec<&str> = Role::ALL.iter().map(|role| role.as_str()).collect();
            format!("{text:?} is not a role; roles are {}", all.join(", "))
        })
    }
}

/// Where a role holds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Everywhere: every organisation, and the clusters themselves.
    Platform,
    /// An organisation and all of its apps.
    Organisation(OrganisationId),
    App(AppId),
    Label(AppId, LabelName),
    /// All labels of a pattern, as in `preview/*`.
    Labels(AppId, LabelPattern),
}

impl Scope {
    /// An app's label, or all labels of a pattern.
    pub fn of_labels(app: AppId, text: &str) -> Result<Self, NameError> {
        if text.ends_with('*') { Ok(Scope::Labels(app, text.parse()?)) } else { Ok(Scope::Label(app, text.parse()?)) }
    }
}

/// A role somewhere.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Grant {
    pub role: Role,
    pub scope: Scope,
}

/// What an act is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place<'a> {
    Platform,
    Organisation(OrganisationId),
    /// An app as a whole, with all its labels.
    App {
        organisation: OrganisationId,
        app: AppId,
    },
    Label {
        organisation: OrganisationId,
        app: AppId,
        label: &'a LabelName,
    },
    /// All labels of a pattern.
    Labels {
        organisation: OrganisationId,
        app: AppId,
        pattern: &'a LabelPattern,
    },
    /// At least one label of an app.
    SomeLabel {
        organisation: OrganisationId,
        app: AppId,
    },
}

impl Grant {
    fn covers(&self, place: Place<'_>) -> bool {
        match (&self.scope, place) {
            (Scope::Platform, _) => true,
            (
                Scope::Organisation(own),
                Place::Organisation(organisation)
                | Place::App { organisation, .. }
                | Place::Label { organisation, .. }
                | Place::Labels { organisation, .. }
                | Place::SomeLabel { organisation, .. },
            ) => *own == organisation,
            (
                Scope::App(own),
                Place::App { app, .. }
                | Place::Label { app, .. }
                | Place::Labels { app, .. }
                | Place::SomeLabel { app, .. },
            ) => *own == app,
            (Scope::Label(own, of), Place::Label { app, label, .. }) => *own == app && of == label,
            (Scope::Labels(own, of), Place::Label { app, label, .. }) => *own == app && of.covers(label),
            (Scope::Labels(own, of), Place::Labels { app, pattern, .. }) => *own == app && of == pattern,
            (Scope::Label(own, _) | Scope::Labels(own, _), Place::SomeLabel { app, .. }) => *own == app,
            _ => false,
        }
    }
}

/// All that somebody may do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Access {
    pub grants: Vec<Grant>,
    /// What the credential is limited to, beside what its owner may; none: not limited.
    pub limits: Option<Vec<Grant>>,
}

impl Access {
    /// Whether `verb` is allowed at `place`. Nothing else decides.
    pub fn may(&self, verb: Verb, place: Place<'_>) -> bool {
        allows(&self.grants, verb, place) && self.limits.as_ref().is_none_or(|limits| allows(limits, verb, place))
    }

    /// Whether anything at all is allowed at `place`: whoever may nothing there does not learn that it exists.
    pub fn sees(&self, place: Place<'_>) -> bool {
        Verb::ALL.into_iter().any(|verb| self.may(verb, place))
    }
}

fn allows(grants: &[Grant], verb: Verb, place: Place<'_>) -> bool {
    grants.iter().any(|grant| grant.role.may(verb) && grant.covers(place))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    fn organisation(n: u128) -> OrganisationId {
        OrganisationId(Uuid::from_u128(n))
    }

    fn app(n: u128) -> AppId {
        AppId(Uuid::from_u128(n))
    }

    fn label(n: u8) -> LabelName {
        ["staging", "production", "preview-x"][usize::from(n)].parse().unwrap()
    }

    /// App n belongs to organisation n / 2.
    fn place<'a>(kind: u8, n: u128, of: &'a LabelName) -> Place<'a> {
        let organisation = organisation(n / 2);
        match kind {
            0 => Place::Platform,
            1 => Place::Organisation(organisation),
            2 => Place::App { organisation, app: app(n) },
            3 => Place::Label { organisation, app: app(n), label: of },
            _ => Place::SomeLabel { organisation, app: app(n) },
        }
    }

    fn grants() -> impl Strategy<Value = Vec<Grant>> {
        let grant = (0..5_usize, 0..5_u8, 0..4_u128, 0..3_u8).prop_map(|(role, kind, n, l)| Grant {
            role: Role::ALL[role],
            scope: match kind {
                0 => Scope::Platform,
                1 => Scope::Organisation(organisation(n / 2)),
                2 => Scope::App(app(n)),
                3 => Scope::Labels(app(n), "preview/*".parse().unwrap()),
                _ => Scope::Label(app(n), label(l)),
            },
        });
        proptest::collection::vec(grant, 0..4)
    }

    #[test]
    fn a_developer_of_staging_only_reads_production() {
        let (staging, production) = (label(0), label(1));
        let grants = vec![
            Grant { role: Role::Viewer, scope: Scope::App(app(2)) },
            Grant { role: Role::Developer, scope: Scope::Label(app(2), staging.clone()) },
        ];
        let access = Access { grants, limits: None };
        let mut table = String::new();
        for (name, place) in [
            ("staging", place(3, 2, &staging)),
            ("production", place(3, 2, &production)),
            ("the app", place(2, 2, &staging)),
            ("some label", place(4, 2, &staging)),
            ("its organisation", place(1, 2, &staging)),
            ("another app", place(2, 3, &staging)),
        ] {
            let may: Vec<&str> = Verb::ALL.into_iter().filter(|v| access.may(*v, place)).map(Verb::as_str).collect();
            table += &format!("{name}: {}\n", may.join(" "));
        }
        insta::assert_snapshot!(table, @r"
        staging: look deploy
        production: look
        the app: look
        some label: look deploy
        its organisation: 
        another app: 
        ");
    }

    #[test]
    fn a_grant_on_a_pattern_is_one_on_all_of_its_labels() {
        let pattern = |text: &str| text.parse::<LabelPattern>().unwrap();
        let grant = Grant { role: Role::Developer, scope: Scope::Labels(app(2), pattern("preview/*")) };
        let access = Access { grants: vec![grant], limits: None };
        let organisation = organisation(1);
        assert!(access.may(Verb::Deploy, place(3, 2, &label(2))));
        assert!(!access.may(Verb::Deploy, place(3, 2, &label(0))));
        assert!(!access.may(Verb::Deploy, place(3, 3, &label(2))));
        assert!(!access.may(Verb::Deploy, place(2, 2, &label(0))));
        for (of, may) in [("preview/*", true), ("hotfix/*", false)] {
            let here = Place::Labels { organisation, app: app(2), pattern: &pattern(of) };
            assert_eq!(access.may(Verb::Deploy, here), may, "{of}");
        }
    }

    #[test]
    fn a_meeting_of_roles_may_what_both_may() {
        for (one, two) in Role::ALL.into_iter().flat_map(|one| Role::ALL.map(|two| (one, two))) {
            for verb in Verb::ALL {
                let met = one.meet(two).is_some_and(|role| role.may(verb));
                assert_eq!(met, one.may(verb) && two.may(verb), "{one} {two} {verb:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn the_laws(grants in grants(), limits in grants(), verb in 0..5_usize, n in 0..4_u128, l in 0..3_u8) {
            let verb = Verb::ALL[verb];
            let of = label(l);
            let free = Access { grants: grants.clone(), limits: None };
            let limited = Access { grants, limits: Some(limits) };
            for kind in 0..5 {
                let here = place(kind, n, &of);
                // A limit never adds.
                prop_assert!(!limited.may(verb, here) || free.may(verb, here));
                // The operator's administrators may everything.
                if free.may(Verb::Administer, Place::Platform) {
                    prop_assert!(free.may(verb, here));
                }
                // An administrator may all that others may.
                if free.may(Verb::Administer, here) {
                    prop_assert!(free.may(verb, here));
                }
            }
            // Wider places contain narrower ones.
            let wide = [place(0, n, &of), place(1, n, &of), place(2, n, &of), place(3, n, &of), place(4, n, &of)];
            for pair in wide.windows(2) {
                prop_assert!(!free.may(verb, pair[0]) || free.may(verb, pair[1]), "{pair:?}");
            }
        }
    }
}
