//! Paths as they are typed: what is a path, which folder it speaks of, and how it goes on.
use crate::format::find::Listed;

/// Whether a text is the beginning of a path rather than something to look for.
pub fn is_path(text: &str) -> bool {
    let bytes = text.as_bytes();
    // `C:\`, where there are such.
    let drive =
        cfg!(windows) && bytes.len() >= 3 && bytes[0].is_ascii_alphabetic() && bytes[1] == b':' && slash(bytes[2]);
    let first = text.split(is_slash).next().unwrap_or_default();
    drive || text.starts_with(is_slash) || text.starts_with('~') || (matches!(first, "." | ".."))
}

fn slash(b: u8) -> bool {
    b == b'/' || cfg!(windows) && b == b'\\'
}

fn is_slash(c: char) -> bool {
    u8::try_from(c).is_ok_and(slash)
}

/// The folder that a path speaks of, and the beginning of a name in it. `~`, `.` and `..` are folders themselves.
pub fn split(text: &str) -> (String, String) {
    match text.rfind(is_slash) {
        Some(at) => {
            let (folder, stem) = text.split_at(at + 1);
            (folder.to_owned(), stem.to_owned())
        }
        None => (format!("{text}/"), String::new()),
    }
}

/// The entries that a beginning leaves, in their order: those that begin so or, if none does, those that have it within.
/// Hidden ones only where a dot was typed.
pub fn matching<'a>(entries: &'a [Listed], stem: &str) -> Vec<&'a Listed> {
    let lower = stem.to_lowercase();
    let exact = stem != lower;
    let fits = |e: &Listed, within: bool| {
        let name = if exact { e.name.clone() } else { e.name.to_lowercase() };
        let stem = if exact { stem } else { &lower };
        (stem.starts_with('.') || !e.name.starts_with('.'))
            && if within { name.contains(stem) } else { name.starts_with(stem) }
    };
    let begin: Vec<&Listed> = entries.iter().filter(|e| fits(e, false)).collect();
    if begin.is_empty() { entries.iter().filter(|e| fits(e, true)).collect() } else { begin }
}

/// How far the typed text can be completed, as a shell would: to what all that match begin with. A folder that is the
/// only one left gets its slash. `None` where that adds nothing.
pub fn complete(text: &str, entries: &[Listed]) -> Option<String> {
    let (folder, stem) = split(text);
    let hits = matching(entries, &stem);
    let [first, rest @ ..] = &hits[..] else { return None };
    let mut common = first.name.as_str();
    for hit in rest {
        let same = common.char_indices().zip(hit.name.chars()).find(|((_, a), b)| a != b).map(|((at, _), _)| at);
        let end = same.unwrap_or(common.len().min(hit.name.len()));
        common = common.get(..end).unwrap_or_default();
    }
    let slash = if rest.is_empty() && first.is_folder { "/" } else { "" };
    // What was typed in other letters, or from the middle of a name, is replaced; never by less than was typed.
    let longer = common.len() + slash.len() > stem.len() || rest.is_empty() && common != stem;
    longer.then(|| format!("{folder}{common}{slash}")).filter(|t| t != text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(names: &str) -> Vec<Listed> {
        let entry =
            |n: &str| Listed { name: n.trim_end_matches('/').into(), is_folder: n.ends_with('/'), ..Listed::default() };
        names.split_whitespace().map(entry).collect()
    }

    #[test]
    fn what_is_a_path() {
        fn check(text: &str, expected: bool) {
            assert_eq!(is_path(text), expected, "{text}");
        }
        check("/", true);
        check("/models/fl", true);
        check("~", true);
        check("~/x", true);
        check(".", true);
        check("./", true);
        check("../up", true);
        check("..", true);
        check("", false);
        check("flux", false);
        check("org/name", false);
        check("...", false);
        check(".5", false);
    }

    #[test]
    fn folders_and_beginnings() {
        fn check(text: &str, folder: &str, stem: &str) {
            assert_eq!(split(text), (folder.to_owned(), stem.to_owned()), "{text}");
        }
        check("/", "/", "");
        check("/mod", "/", "mod");
        check("/models/flux/", "/models/flux/", "");
        check("~", "~/", "");
        check("~/mod", "~/", "mod");
        check(".", "./", "");
        check("../重み", "../", "重み");
    }

    #[test]
    fn what_a_beginning_leaves() {
        fn check(stem: &str, expected: &str) {
            let all = entries("Flux/ flan.gguf my-flux.gguf .cache/ .hub/");
            let names: Vec<&str> = matching(&all, stem).into_iter().map(|e| e.name.as_str()).collect();
            assert_eq!(names.join(" "), expected, "{stem}");
        }
        check("", "Flux flan.gguf my-flux.gguf");
        check("fl", "Flux flan.gguf");
        check("Fl", "Flux");
        check("ux", "Flux my-flux.gguf");
        check(".", ".cache .hub");
        check(".h", ".hub");
        check("zzz", "");
    }

    #[test]
    fn completion() {
        fn check(text: &str, names: &str, expected: Option<&str>) {
            assert_eq!(complete(text, &entries(names)).as_deref(), expected, "{text} among {names}");
        }
        check("/m/fl", "flux-dev/ flux-schnell/ other/", Some("/m/flux-"));
        check("/m/flux-", "flux-dev/ flux-schnell/", None);
        check("/m/flux-d", "flux-dev/ flux-schnell/", Some("/m/flux-dev/"));
        check("~/a", "a.gguf", Some("~/a.gguf"));
        check("~/a.gguf", "a.gguf", None);
        check("~/a.gguf", "a.gguf/", Some("~/a.gguf/"));
        check("./x", "y", None);
        check("./FL", "flux", None);
        check("./fl", "FLUX", Some("./FLUX"));
        check("./ux", "flux other", Some("./flux"));
        check("./重", "重み 重さ", None);
        check("./", "重み 重さ", Some("./重"));
        check("./", "one/", Some("./one/"));
        check(".", "one/ two/", None);
        check("./", "", None);
    }
}
