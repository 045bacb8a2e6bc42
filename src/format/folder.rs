//! What a path may be: a weight file, an index, a model's folder, a pipeline's folder.
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Assembly, Blob, Companion, Content, Index, OpenOptions, Opened, gguf, safetensors, shards};
use crate::core::model::{FileInfo, Origin, Stored};
use crate::core::{Error, Result};

/// Components of a pipeline that are what a person means by its model, in this order.
const MAIN_COMPONENTS: [&str; 3] = ["transformer", "unet", "prior"];
/// Weights in other formats of the same model; copying them would double an output for nothing.
const OTHER_WEIGHTS: [&str; 9] = ["bin", "pt", "pth", "ckpt", "gguf", "onnx", "h5", "msgpack", "safetensors"];
/// config.json and the like; a larger one is not a config.
const MAX_CONFIG: u64 = 64 << 20;

/// Opens whatever lies at a path that exists.
pub fn open_path(path: &Path, label: &str, options: &OpenOptions) -> Result<Opened> {
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    if path.is_dir() {
        if is_pipeline(path) {
            return open_pipeline(path, label, options);
        }
        if let Some(component) = &options.component {
            return Err(Error::usage(format!("--component {component}: {} is not a pipeline folder", path.display())));
        }
        return open_folder(path, label, options);
    }
    if let Some(component) = &options.component {
        return Err(Error::usage(format!(
            "--component {component}: {} is a file, not a pipeline folder",
            path.display()
        )));
    }
    if name.ends_with(".safetensors.index.json") {
        let folder = path.parent().unwrap_or(Path::new("."));
        let mut assembly = assembly(label, &title_of(folder), Origin::Folder, folder);
        add_index(&mut assembly, folder, path)?;
        return finish(assembly, folder, Path::new(""));
    }
    if name.ends_with(".json") {
        return Err(Error::failed(format!(
            "{}: not a weight file; give its folder, or a *.safetensors.index.json",
            path.display()
        )));
    }
    if is_gguf(path) {
        return open_gguf(path, label, &name);
    }
    let mut a = assembly(label, &name, Origin::File, path);
    add_file(&mut a, path)?;
    // A bare file that lies in a model's folder is described by the config beside it.
    if let Some(folder) = path.parent().filter(|_| is_main_weight_name(&name)) {
        read_configs(&mut a, folder)?;
    }
    a.finish()
}

fn assembly(label: &str, title: &str, origin: Origin, root: &Path) -> Assembly {
    Assembly {
        label: label.to_owned(),
        title: super::title_with(&origin, title),
        origin,
        root: root.to_owned(),
        config: None,
        quantization: None,
        files: Vec::new(),
        companions: Vec::new(),
        index: None,
        warnings: Vec::new(),
        gguf: Vec::new(),
    }
}

fn title_of(folder: &Path) -> String {
    let real = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    // In a cache the folder is called by its hash; the repository's name is what a person knows.
    let repository = real.ancestors().find_map(|p| {
        let name = p.file_name()?.to_string_lossy().into_owned();
        name.strip_prefix("models--").map(|n| n.replace("--", "/"))
    });
    repository.unwrap_or_else(|| real.file_name().map_or_else(|| "model".into(), |n| n.to_string_lossy().into_owned()))
}

fn is_main_weight_name(name: &str) -> bool {
    matches!(name, "model.safetensors" | "diffusion_pytorch_model.safetensors") || name.contains("-of-")
}

/// Whether a file is called one, or is one.
fn is_gguf(path: &Path) -> bool {
    let mut magic = [0; 4];
    path.extension().is_some_and(|e| e.eq_ignore_ascii_case("gguf"))
        || Blob::open(path).and_then(|b| b.read_at(0, &mut magic)).is_ok_and(|()| magic == gguf::MAGIC)
}

/// A GGUF file says everything of itself: what lies around it is not read.
fn open_gguf(path: &Path, label: &str, title: &str) -> Result<Opened> {
    let mut a = assembly(label, title, Origin::File, path);
    for (blob, header) in gguf::split::open(path)?.files {
        let info = FileInfo { path: blob.path().to_owned(), bytes: blob.len(), metadata: header.shown() };
        a.warnings.extend(header.warnings.iter().cloned());
        a.files.push((blob, info, gguf::tensors::arrays(&header)));
        a.gguf.push(Arc::new(header));
    }
    a.finish()
}

/// The one GGUF model of a folder without other weights: a file, or the first of several. `None` without any.
fn only_gguf(folder: &Path) -> Result<Option<PathBuf>> {
    if !safetensors_in(folder).is_empty() {
        return Ok(None);
    }
    let files = list(folder)?.into_iter().filter(|p| p.is_file() && p.extension().is_some_and(|e| e == "gguf"));
    let models: BTreeSet<PathBuf> = files.map(|p| gguf::split::first_of(&p).unwrap_or(p)).collect();
    if models.len() > 1 {
        let names = models.iter().filter_map(|p| Some(p.file_name()?.to_string_lossy().into_owned()));
        return Err(Error::failed(format!(
            "{}: several GGUF models ({}); open one of them",
            folder.display(),
            names.collect::<Vec<_>>().join(", ")
        )));
    }
    Ok(models.into_iter().next())
}

fn open_folder(folder: &Path, label: &str, _: &OpenOptions) -> Result<Opened> {
    if let Some(file) = only_gguf(folder)? {
        return open_gguf(&file, label, &title_of(folder));
    }
    let mut a = assembly(label, &title_of(folder), Origin::Folder, folder);
    add_weights(&mut a, folder)?;
    finish(a, folder, Path::new(""))
}

/// A model whose weights were added, with everything that lies around them: `weights` is their folder within `root`.
fn finish(mut a: Assembly, root: &Path, weights: &Path) -> Result<Opened> {
    let folder = root.join(weights);
    read_configs(&mut a, &folder)?;
    let mut opened = a.finish()?;
    let mut warnings = Vec::new();
    opened.companions = companions(root, weights, &mut warnings)?;
    opened.model_mut().warnings.append(&mut warnings);
    let files = &opened.model.files;
    let others = safetensors_in(&folder).into_iter().filter(|p| !files.iter().any(|f| f.path == *p));
    opened.strays = others.filter_map(|p| Some(p.file_name()?.to_string_lossy().into_owned())).collect();
    Ok(opened)
}

/// Whether a folder is that of a diffusers pipeline.
pub fn is_pipeline(folder: &Path) -> bool {
    folder.join("model_index.json").is_file()
}

/// The folders of a pipeline that have weights.
pub fn components(folder: &Path) -> Result<Vec<String>> {
    let found = list(folder)?.into_iter().filter(|p| p.is_dir() && !safetensors_in(p).is_empty());
    Ok(found.filter_map(|p| Some(p.file_name()?.to_string_lossy().into_owned())).collect())
}

fn open_pipeline(folder: &Path, label: &str, options: &OpenOptions) -> Result<Opened> {
    let found = components(folder)?;
    let choices = found.join(", ");
    let component = match &options.component {
        Some(asked) if found.contains(asked) => asked.clone(),
        Some(asked) => {
            return Err(Error::usage(format!("--component {asked}: {} has weights for {choices}", folder.display())));
        }
        None => match MAIN_COMPONENTS.iter().find(|c| found.iter().any(|f| f == *c)) {
            Some(c) => (*c).to_owned(),
            None if found.len() == 1 => found[0].clone(),
            None if found.is_empty() => {
                return Err(Error::failed(format!("{}: no component has safetensors weights", folder.display())));
            }
            None => {
                return Err(Error::usage(format!(
                    "{}: choose one with --component; it has weights for {choices}",
                    folder.display()
                )));
            }
        },
    };
    let inner = folder.join(&component);
    let origin = Origin::Component { name: component.clone() };
    let mut a = assembly(label, &title_of(folder), origin, folder);
    if options.component.is_none() && found.len() > 1 {
        a.warnings.push(format!("opened the component `{component}`; --component takes {choices}"));
    }
    add_weights(&mut a, &inner)?;
    finish(a, folder, Path::new(&component))
}

/// The weights of a folder: by index, by the usual name, or every safetensors file in it.
fn add_weights(a: &mut Assembly, folder: &Path) -> Result<()> {
    let names = |suffix: &str| -> Result<Vec<PathBuf>> {
        Ok(list(folder)?.into_iter().filter(|p| p.to_string_lossy().ends_with(suffix)).collect())
    };
    for stem in ["model", "diffusion_pytorch_model"] {
        let index = folder.join(format!("{stem}.safetensors.index.json"));
        if index.is_file() {
            return add_index(a, folder, &index);
        }
        let file = folder.join(format!("{stem}.safetensors"));
        if file.is_file() {
            return add_file(a, &file);
        }
    }
    let indexes = names(".safetensors.index.json")?;
    if let [index] = &indexes[..] {
        return add_index(a, folder, index);
    }
    if indexes.len() > 1 {
        let all: Vec<String> = indexes.iter().map(|p| p.display().to_string()).collect();
        return Err(Error::failed(format!(
            "{}: several indexes ({}); open one of them",
            folder.display(),
            all.join(", ")
        )));
    }
    let files = safetensors_in(folder);
    if files.is_empty() {
        let inside: Vec<String> =
            list(folder)?.iter().filter_map(|p| Some(p.file_name()?.to_string_lossy().into_owned())).take(6).collect();
        let hint = if inside.iter().any(|n| n.ends_with(".bin")) {
            "; convert pytorch_model.bin to safetensors first"
        } else {
            ""
        };
        return Err(Error::failed(format!(
            "{}: no safetensors or GGUF weights here{hint} (found: {})",
            folder.display(),
            inside.join(", ")
        )));
    }
    for file in files {
        add_file(a, &file)?;
    }
    Ok(())
}

fn add_file(a: &mut Assembly, path: &Path) -> Result<()> {
    let blob = Blob::open(path)?;
    let header = safetensors::read_header(&blob)?;
    let info = FileInfo { path: path.to_owned(), bytes: blob.len(), metadata: header.metadata };
    a.files.push((blob, info, header.arrays));
    Ok(())
}

fn add_index(a: &mut Assembly, folder: &Path, index: &Path) -> Result<()> {
    let read = shards::read_index(index)?;
    let name = index.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let mut unnamed = Vec::new();
    let mut shard_of: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (tensor, file) in &read.weight_map {
        shard_of.entry(file).or_default().insert(tensor);
    }
    for (file, tensors) in shard_of {
        let path = folder.join(file);
        if !path.is_file() {
            let tensor = tensors.first().copied().unwrap_or_default();
            return Err(Error::failed(format!(
                "{}: shard {file}, which the index names for `{tensor}` and {} more, is missing; download it",
                folder.display(),
                tensors.len() - 1
            )));
        }
        add_file(a, &path)?;
        let Some((_, _, arrays)) = a.files.last() else {
            continue;
        };
        let there: BTreeSet<&str> = arrays.iter().map(|s: &Stored| s.name.as_str()).collect();
        if let Some(missing) = tensors.iter().find(|t| !there.contains(**t)) {
            return Err(Error::failed(format!(
                "{}: tensor `{missing}` is not in {file}, where the index says it is",
                index.display()
            )));
        }
        let extra: Vec<&str> = there.difference(&tensors).copied().collect();
        if !extra.is_empty() {
            a.warnings.push(format!("{file} holds {} tensors that the index does not name", extra.len()));
        }
        unnamed.extend(extra.into_iter().map(str::to_owned));
    }
    a.index = Some(Index { name, total_size: read.total_size(), unnamed });
    Ok(())
}

/// A small JSON file of a folder, where there is such.
pub fn json_beside(folder: &Path, name: &str) -> Result<Option<serde_json::Value>> {
    super::json::read(&folder.join(name), MAX_CONFIG)
}

/// config.json and quantization_config.json of a folder, where there are such.
fn read_configs(a: &mut Assembly, folder: &Path) -> Result<()> {
    a.config = super::json::read(&folder.join("config.json"), MAX_CONFIG)?;
    a.quantization = super::json::read(&folder.join("quantization_config.json"), MAX_CONFIG)?;
    Ok(())
}

fn safetensors_in(folder: &Path) -> Vec<PathBuf> {
    let mut files = list(folder).unwrap_or_default();
    files.retain(|p| p.is_file() && p.extension().is_some_and(|e| e == "safetensors"));
    files
}

fn list(folder: &Path) -> Result<Vec<PathBuf>> {
    let fail = |e: std::io::Error| Error::failed(format!("{}: cannot be listed: {e}", folder.display())).because(e);
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(fail)? {
        paths.push(entry.map_err(fail)?.path());
    }
    paths.sort();
    Ok(paths)
}

/// Every file of a folder but the weights that lie in `weights` (a subfolder, or empty for the folder itself).
fn companions(root: &Path, weights: &Path, warnings: &mut Vec<String>) -> Result<Vec<Companion>> {
    const DEEPEST: usize = 16;
    let home = home_of(root);
    let mut found = Vec::new();
    let (mut duplicates, mut strays) = (Vec::new(), Vec::new());
    let mut folders = vec![PathBuf::new()];
    while let Some(relative) = folders.pop() {
        if relative.components().count() > DEEPEST {
            continue;
        }
        for path in list(&root.join(&relative))? {
            let Some(name) = path.file_name() else { continue };
            let here = relative.join(name);
            let text = name.to_string_lossy();
            // A link may lead out of the model, in circles, or nowhere.
            if path.is_symlink() && !path.canonicalize().is_ok_and(|real| real.is_file() && real.starts_with(&home)) {
                strays.push(here.display().to_string());
                continue;
            }
            if path.is_dir() {
                // Version control is not the model's.
                if text != ".git" && text != ".cache" {
                    folders.push(here);
                }
                continue;
            }
            // At the top of a pipeline lie the same weights for other programs.
            if relative == weights || relative.as_os_str().is_empty() {
                if relative == weights && text.ends_with(".safetensors.index.json") {
                    continue;
                }
                if relative == weights && text.ends_with(".safetensors") {
                    continue;
                }
                let extension = path.extension().map(|e| e.to_string_lossy().into_owned()).unwrap_or_default();
                if OTHER_WEIGHTS.contains(&extension.as_str()) || text.ends_with(".bin.index.json") {
                    duplicates.push(here.display().to_string());
                    continue;
                }
            }
            if path.is_file() {
                found.push(Companion { relative: here, content: Content::File(path) });
            }
        }
    }
    if !duplicates.is_empty() {
        warnings.push(format!("not part of an output folder, weights in other forms: {}", duplicates.join(", ")));
    }
    if !strays.is_empty() {
        warnings.push(format!("not part of an output folder, links that leave the model: {}", strays.join(", ")));
    }
    found.sort_by(|a, b| a.relative.cmp(&b.relative));
    Ok(found)
}

/// Where links of a folder may lead: into itself or, in a cache, to the repository's own blobs.
fn home_of(root: &Path) -> PathBuf {
    let real = root.canonicalize().unwrap_or_else(|_| root.to_owned());
    let is_repository = |p: &&Path| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with("models--"));
    real.ancestors().find(is_repository).map_or_else(|| real.clone(), Path::to_owned)
}
