//! The `tomcat` pack: a WAR file, an exploded one, or a Maven project that makes one. The release is the exploded
//! web application.

use magrathea_core::wire::BuildCommand;

use crate::{BuildpackError, Packed, Tree, command, fail, quote};

/// Where the web application is unpacked during the build.
const OUTPUT: &str = ".magrathea/webapp";

/// Where an exploded web application lies by custom.
const EXPLODED: [&str; 4] = [".", "webapp", "web", "WebContent"];

const PACKAGE: &str = "mvn -B -ntp -DskipTests -Dmaven.repo.local=/cache/maven package";

/// What there is to make a web application from.
pub(crate) enum Source {
    Maven,
    Exploded(&'static str),
    War(String),
}

pub(crate) fn detect(tree: &Tree) -> Option<Source> {
    if tree.has("pom.xml") {
        return Some(Source::Maven);
    }
    if let Some(folder) = EXPLODED.into_iter().find(|folder| tree.has_in(folder, "WEB-INF/web.xml")) {
        return Some(Source::Exploded(folder));
    }
    wars(tree).next().map(|war| Source::War(war.clone()))
}

fn wars(tree: &Tree) -> impl Iterator<Item = &String> {
    let is_near =
        |file: &str| !file.contains('/') || file.strip_prefix("target/").is_some_and(|rest| !rest.contains('/'));
    tree.files.iter().filter(move |file| file.ends_with(".war") && is_near(file))
}

/// `commands` are the manifest's own, which may make the WAR.
pub(crate) fn pack(tree: &Tree, commands: &[String]) -> Result<Packed, BuildpackError> {
    let mut packed = Packed { root: ".".into(), output: Some(OUTPUT.into()), ..Packed::default() };
    match detect(tree) {
        Some(Source::Maven) => {
            packed.reason = "pom.xml found".into();
            packed.commands = vec![command("mvn package", PACKAGE.into()), offline("unpack the WAR", unpack_built())];
        }
        Some(Source::Exploded(folder)) => {
            packed.reason = "WEB-INF/web.xml found".into();
            packed.output = (folder != ".").then(|| folder.into());
        }
        Some(Source::War(war)) => {
            let others = wars(tree).count().saturating_sub(1);
            if others > 0 {
                return fail(
                    format!("there are {} WAR files; which one is the app is not clear", others + 1),
                    "keep one, at the top or in target/",
                );
            }
            packed.reason = format!("{war} found");
            packed.commands = vec![offline(
                "unpack the WAR",
                format!("mkdir -p {OUTPUT} && unzip -q -o {} -d {OUTPUT}", quote(&format!("./{war}"))),
            )];
        }
        None if !commands.is_empty() => {
            packed.reason = "made by `build.commands`".into();
            packed.finish = vec![offline("unpack the WAR", unpack_built())];
        }
        None => {
            return fail(
                "there is no web application for tomcat",
                format!(
                    "looked for pom.xml, for WEB-INF/web.xml in {}, and for a WAR file at the top or in target/",
                    EXPLODED.join(", ")
                ),
            );
        }
    }
    Ok(packed)
}

fn offline(title: &str, run: String) -> BuildCommand {
    BuildCommand { network: false, ..command(title, run) }
}

/// Unpacks the WAR that the build made, in whichever module.
fn unpack_built() -> String {
    format!(
        "war=$(find . -path '*/target/*.war' -o -path '*/build/libs/*.war' | sort | head -n 1)\n\
         if [ -z \"$war\" ]; then echo 'the build made no WAR file in target/ or build/libs/' >&2; exit 1; fi\n\
         mkdir -p {OUTPUT} && unzip -q -o \"$war\" -d {OUTPUT}"
    )
}
