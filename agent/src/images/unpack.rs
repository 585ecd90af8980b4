//! From what travels to a tar that the engine reads. Everything in what came is hostile until its digest is the wanted one,
//! and the engine gets a tar that is written anew: nothing of the other's reaches it but bytes that were checked.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};

use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::pack::append;
use super::{MAX_CONFIG, layer_name};

/// What an image's configuration says that counts here.
#[derive(Deserialize)]
struct Config {
    rootfs: RootFs,
    #[serde(default)]
    config: Settings,
}

#[derive(Deserialize)]
struct RootFs {
    diff_ids: Vec<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase")]
struct Settings {
    labels: Option<std::collections::BTreeMap<String, String>>,
}

/// An image that is what it was asked for.
#[derive(Debug)]
pub struct Checked {
    config: Vec<u8>,
    /// Where the bytes of each layer lie; the first ones are the engine's already.
    layers: Vec<Option<(u64, u64)>>,
}

/// Checks that a tar holds the configuration with this id and all of its layers but the first ones, and nothing else; and that
/// it bears a label.
pub fn check(tar: &mut File, id: &str, skip: usize, (key, value): (&str, &str)) -> io::Result<Checked> {
    tar.seek(SeekFrom::Start(0))?;
    let mut checked: Option<(Checked, Vec<String>)> = None;
    let mut archive = tar::Archive::new(tar);
    for entry in archive.entries()? {
        let mut entry = entry?;
        if entry.header().entry_type() != tar::EntryType::Regular {
            return Err(bad("it holds something that is not a file"));
        }
        let name = entry.path()?.to_string_lossy().into_owned();
        let Some((image, digests)) = &mut checked else {
            if name != "config" || entry.size() > MAX_CONFIG {
                return Err(bad("it does not begin with a configuration"));
            }
            let mut config = Vec::new();
            entry.read_to_end(&mut config)?;
            checked = Some(check_config(config, id, skip, (key, value))?);
            continue;
        };
        let number = name.strip_prefix("layers/").and_then(|number| number.parse::<usize>().ok());
        let number = number.filter(|number| *number >= skip && name == layer_name(*number));
        let (Some(digest), Some(place)) =
            (number.and_then(|n| digests.get(n)), number.and_then(|n| image.layers.get_mut(n)))
        else {
            return Err(bad("it holds something that is not asked for"));
        };
        let (from, size) = (entry.raw_file_position(), entry.size());
        if place.is_some() || digest_of(&mut entry)? != *digest {
            return Err(bad(&format!("layer {} is not the one that was asked for", number.unwrap_or_default())));
        }
        *place = Some((from, size));
    }
    let (image, _) = checked.ok_or_else(|| bad("it is empty"))?;
    if image.layers.iter().skip(skip).any(Option::is_none) {
        return Err(bad("a layer is missing"));
    }
    Ok(image)
}

fn check_config(
    config: Vec<u8>,
    id: &str,
    skip: usize,
    (key, value): (&str, &str),
) -> io::Result<(Checked, Vec<String>)> {
    if digest_of(&mut config.as_slice())? != id {
        return Err(bad("its configuration is not the one that was asked for"));
    }
    let read: Config = serde_json::from_slice(&config)?;
    let digests = read.rootfs.diff_ids;
    if skip > digests.len() {
        return Err(bad("it has fewer layers than the node is said to have"));
    }
    let labels = read.config.labels.unwrap_or_default();
    if labels.get(key).map(String::as_str) != Some(value) {
        return Err(bad(&format!("it is not a release image of an installation called {value:?}")));
    }
    Ok((Checked { config, layers: vec![None; digests.len()] }, digests))
}

/// Writes what the engine reads.
pub fn unpack(tar: &mut File, image: &Checked, to: impl Write) -> io::Result<()> {
    let names: Vec<String> = (0..image.layers.len()).map(layer_name).collect();
    let manifest = serde_json::json!([{ "Config": "config", "RepoTags": null, "Layers": names }]).to_string();
    let mut built = tar::Builder::new(to);
    append(&mut built, "manifest.json", manifest.len() as u64, manifest.as_bytes())?;
    append(&mut built, "config", image.config.len() as u64, image.config.as_slice())?;
    for (name, (from, size)) in names.iter().zip(&image.layers).filter_map(|(name, place)| Some((name, (*place)?))) {
        tar.seek(SeekFrom::Start(from))?;
        append(&mut built, name, size, (&mut *tar).take(size))?;
    }
    built.into_inner()?.flush()
}

fn digest_of(data: &mut impl Read) -> io::Result<String> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        match data.read(&mut buffer)? {
            0 => return Ok(format!("sha256:{}", hex::encode(hasher.finalize()))),
            count => hasher.update(buffer.get(..count).unwrap_or_default()),
        }
    }
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the image that came is refused: {what}"))
}

#[cfg(test)]
mod tests {
    use super::super::pack;
    use super::*;

    const OWNER: (&str, &str) = ("magrathea.owner", "mag");

    fn sha(bytes: &[u8]) -> String {
        digest_of(&mut &*bytes).unwrap()
    }

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file.seek(SeekFrom::Start(0)).unwrap();
        file
    }

    fn tar_of(entries: &[(&str, &[u8])]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, data) in entries {
            append(&mut tar, name, data.len() as u64, *data).unwrap();
        }
        tar.into_inner().unwrap()
    }

    const LAYERS: [&[u8]; 3] = [b"the base", b"the stack", b"the app"];

    fn config(owner: &str) -> String {
        let ids: Vec<String> = LAYERS.iter().map(|layer| sha(layer)).collect();
        serde_json::json!({"config": {"Labels": {"magrathea.owner": owner}}, "rootfs": {"diff_ids": ids}}).to_string()
    }

    /// As Docker 20.10 writes an image, with its second layer as a link.
    fn engines() -> (File, String) {
        let config = config("mag");
        let manifest =
            r#"[{"Config": "c.json", "RepoTags": null, "Layers": ["a/layer.tar", "b/layer.tar", "d/layer.tar"]}]"#;
        let mut tar = tar::Builder::new(Vec::new());
        append(&mut tar, "a/layer.tar", 8, LAYERS[0]).unwrap();
        append(&mut tar, "c.json", config.len() as u64, config.as_bytes()).unwrap();
        append(&mut tar, "x/layer.tar", 9, LAYERS[1]).unwrap();
        let mut link = tar::Header::new_gnu();
        link.set_entry_type(tar::EntryType::Symlink);
        link.set_size(0);
        tar.append_link(&mut link, "b/layer.tar", "../x/layer.tar").unwrap();
        append(&mut tar, "d/layer.tar", 7, LAYERS[2]).unwrap();
        append(&mut tar, "manifest.json", manifest.len() as u64, manifest.as_bytes()).unwrap();
        (file(&tar.into_inner().unwrap()), sha(config.as_bytes()))
    }

    #[test]
    fn an_image_comes_out_as_it_went_in() {
        for skip in 0..=3 {
            let (engines, id) = engines();
            let mut packed = Vec::new();
            pack(engines, skip, &mut packed).unwrap();
            let mut packed = file(&packed);
            let image = check(&mut packed, &id, skip, OWNER).unwrap();
            let mut built = Vec::new();
            unpack(&mut packed, &image, &mut built).unwrap();
            let mut names = Vec::new();
            for entry in tar::Archive::new(built.as_slice()).entries().unwrap() {
                let mut entry = entry.unwrap();
                let (name, mut data) = (entry.path().unwrap().display().to_string(), Vec::new());
                entry.read_to_end(&mut data).unwrap();
                if let Some(number) = name.strip_prefix("layers/") {
                    assert_eq!(data, LAYERS[number.parse::<usize>().unwrap()]);
                }
                names.push(name);
            }
            assert_eq!(names.len(), 2 + 3 - skip, "{names:?}");
        }
    }

    #[test]
    fn what_is_not_what_was_asked_for_is_refused() {
        let (good, other) = (config("mag"), config("other"));
        let (good, other) = (good.as_bytes(), other.as_bytes());
        let layers = |third: &'static [u8]| [("layers/1", LAYERS[1]), ("layers/2", third)];
        let with = |config, rest: &[(&'static str, &'static [u8])]| {
            let mut entries = vec![("config", config)];
            entries.extend(rest);
            tar_of(&entries)
        };
        let whole = with(good, &layers(LAYERS[2]));
        check(&mut file(&whole), &sha(good), 1, OWNER).unwrap();
        let twice = [("layers/1", LAYERS[1]), ("layers/1", LAYERS[1])];
        let extra = [("layers/1", LAYERS[1]), ("layers/2", LAYERS[2]), ("repositories", b"x" as &[u8])];
        let known = [("layers/0", LAYERS[0]), ("layers/1", LAYERS[1]), ("layers/2", LAYERS[2])];
        let spelled = [("layers/01", LAYERS[1]), ("layers/2", LAYERS[2])];
        for (tar, id, told) in [
            (with(good, &layers(b"another app")), sha(good), "layer 2 is not"),
            (with(good, &layers(LAYERS[2])[..1]), sha(good), "a layer is missing"),
            (with(good, &twice), sha(good), "layer 1 is not"),
            (with(good, &extra), sha(good), "not asked for"),
            (with(good, &known), sha(good), "not asked for"),
            (with(good, &spelled), sha(good), "not asked for"),
            (with(other, &layers(LAYERS[2])), sha(good), "its configuration is not"),
            (with(other, &layers(LAYERS[2])), sha(other), "not a release image"),
            (tar_of(&layers(LAYERS[2])), sha(good), "does not begin with"),
            (Vec::new(), sha(good), "it is empty"),
            (whole[..whole.len() - 1536 - 512].to_vec(), sha(good), "missing"),
        ] {
            let refused = check(&mut file(&tar), &id, 1, OWNER).unwrap_err().to_string();
            assert!(refused.contains(told), "{told}: {refused}");
        }
        assert!(check(&mut file(&whole), &sha(good), 9, OWNER).is_err());
    }
}
