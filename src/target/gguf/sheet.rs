//! A model as the tensors of a GGUF file, with a type for each: what plan, layout and keys are made from.
use std::collections::{HashMap, HashSet};

use super::codec::unwritten;
use super::diffusion::{self, Diffusion, architectures};
use super::hf::{self, Mapped};
use super::mixtures::prune::Pruning;
use super::mixtures::{self, Choice, Hyper, Kind, Mixture, Named, Options, Source, keys, rules};
use crate::core::imatrix::Importance;
use crate::core::model::Encoding;
use crate::core::options::Names;
use crate::core::plan::{Action, Change, Part, Row, Slice};
use crate::core::recipe::Recipe;
use crate::core::rules::{Cause, Decision};
use crate::core::{Dtype, Error, Family, Model, Patch, Result, Settings, Storage, Tensor, TensorId};
use crate::format::gguf::{Pair, Type};

/// The settings resolved over a model, in the order of the output.
#[derive(Debug)]
pub struct Sheet<'a> {
    model: &'a Model,
    settings: &'a Settings,
    /// What was asked for.
    pub options: Options,
    /// Keys that were set by hand.
    pub overrides: Vec<Pair>,
    /// Layers that go.
    pub pruning: Option<Pruning>,
    /// The model under GGUF's names, where it has others.
    pub mapped: Option<Mapped>,
    /// The same of a diffusion model.
    pub diffusion: Option<Diffusion>,
    cells: Vec<Cell>,
    sources: Vec<Source>,
    decisions: Vec<Decision>,
    choices: Vec<Choice>,
}

/// What a tensor is made of.
#[derive(Clone, Debug)]
struct Cell {
    /// Its name before layers were pruned, which importance matrices know.
    called: String,
    shape: Vec<u64>,
    tensors: Vec<TensorId>,
    slices: Vec<Slice>,
    change: Change,
}

impl<'a> Sheet<'a> {
    /// Chooses a type for each tensor.
    pub fn new(model: &'a Model, settings: &'a Settings) -> Result<Self> {
        let (mut mapped, mut diffusion) = (None, None);
        if model.format != "gguf" {
            let wanted = settings.names.unwrap_or(Names::Original);
            diffusion = diffusion::map(model, wanted)?;
            if diffusion.is_none() {
                if wanted == Names::Source {
                    return Err(Error::usage("`--keep-names`: llama.cpp knows models by the names that it gives them"));
                }
                mapped = Some(hf::map(model)?);
            }
        }
        let options = options(settings)?;
        let overrides: Vec<Pair> =
            settings.gguf.override_kv.iter().map(|text| keys::parse_override(text)).collect::<Result<_>>()?;
        let set = |key: &str| overrides.iter().find(|p| *p.key == *key.as_bytes()).and_then(|p| p.value.as_u64());
        let read = |key: &str| match &mapped {
            Some(mapped) => mapped.number(key),
            None => model.numbers.get(key).copied(),
        };
        let number = |key: &str| set(key).or_else(|| read(key));
        let own = mapped.as_ref().map(|m| m.architecture.name).or(diffusion.as_ref().map(|d| d.architecture.name));
        let arch = architecture(model, own, &overrides);
        let hyper = Hyper::read(&arch, number);
        let pruning = match &settings.gguf.prune_layers {
            Some(list) => {
                let layers = number(&format!("{arch}.block_count")).ok_or_else(|| {
                    Error::failed(format!("{}: has no key `{arch}.block_count`, so no layers to prune", model.label))
                })?;
                Some(Pruning::parse(list, layers).map_err(|e| e.at("--prune-layers"))?)
            }
            None => None,
        };
        let mut all: Vec<(Cell, Source)> = Vec::new();
        let items = match (&mut mapped, &mut diffusion) {
            (Some(mapped), _) => Some(std::mem::take(&mut mapped.items)),
            (None, Some(diffusion)) => Some(std::mem::take(&mut diffusion.items)),
            (None, None) => None,
        };
        for (cell, from) in cells(model, items)? {
            let name = match &pruning {
                Some(pruning) => pruning.rename(&cell.called),
                None => Some(cell.called.clone()),
            };
            let Some(name) = name else { continue };
            let dims = cell.shape.iter().rev().copied().collect();
            all.push((cell, Source { name, dims, from }));
        }
        if settings.gguf.keep_split {
            mixtures::in_shards(&mut all, |(cell, _)| place(model, cell));
        } else {
            mixtures::in_order(&mut all, |(_, source)| &source.name);
        }
        let (cells, sources): (Vec<Cell>, Vec<Source>) = all.into_iter().unzip();
        // What is said of every tensor is the mixture; what remains was said of single ones.
        let own = Settings { defaults: Patch { dtype: None, ..settings.defaults.clone() }, ..settings.clone() };
        let search = own.search(cells.len());
        let decide = |(cell, source)| own.decide_found(&search, &names(model, &own, cell, source));
        let decisions: Vec<Decision> = cells.iter().zip(&sources).map(decide).collect();
        let mut named: HashMap<&str, Named> = HashMap::new();
        for (source, decision) in sources.iter().zip(&decisions) {
            if decision.keeps() {
                named.insert(&source.name, Named { ty: source.from, by: String::new() });
            } else if let Some(dtype) = &decision.patch.dtype {
                let ty = rules::parse_type(dtype.as_str())?;
                named.insert(&source.name, Named { ty, by: settings.explain(&decision.by) });
            }
        }
        let by_hand = |name: &str| named.get(name).cloned();
        let mut choices = match architectures::named(&arch) {
            Some(architecture) => {
                let judged = |name: &str| diffusion.as_ref()?.judged.get(name).cloned();
                diffusion::types::choose(architecture, &sources, &options, &judged, &by_hand)
            }
            None => mixtures::choose(&hyper, &sources, &options, &by_hand)?,
        };
        for ((choice, source), decision) in choices.iter_mut().zip(&sources).zip(&decisions) {
            if decision.keeps() && choice.kind != Kind::Kept {
                let why = settings.explain(decision.kept_by.as_ref().unwrap_or(&decision.by));
                *choice = Choice { ty: source.from, kind: Kind::Kept, why };
            }
        }
        Ok(Self { model, settings, options, overrides, pruning, mapped, diffusion, cells, sources, decisions, choices })
    }

    /// The rows of the plan, and what a person should know of them.
    pub fn rows(&self) -> Result<(Vec<Row>, Vec<String>)> {
        let mut rows = Vec::with_capacity(self.cells.len());
        let (mut silent, mut without, mut odd) = (Vec::new(), Vec::new(), Vec::new());
        for (i, choice) in self.choices.iter().enumerate() {
            let row = self.row(i, choice)?;
            if let (Action::Quantize(recipe), Some(imatrix)) = (&row.action, &self.settings.importance) {
                let (called, source) = (&self.cells[i].called, &self.sources[i]);
                match &recipe.importance {
                    Some(importance) if importance.silent().0 == 0 => {}
                    None if !imatrix.entries.contains_key(called) => without.push(row.name.clone()),
                    None if imatrix.of(called, source.cols(), source.matrices()).is_err() => {
                        odd.push(row.name.clone());
                    }
                    _ => silent.push(row.name.clone()),
                }
            }
            rows.push(row);
        }
        let mut warnings = self.diffusion.as_ref().map(|d| d.warnings.clone()).unwrap_or_default();
        let mut tell = |names: &[String], one: &str, many: &str| match names {
            [] => {}
            [name] => warnings.push(format!("`{name}` {one}")),
            [name, ..] => warnings.push(format!("{} tensors {many}, `{name}` for one", names.len())),
        };
        tell(
            &without,
            "has no entry in the importance matrix and is quantized without",
            "have no entry in the importance matrix and are quantized without",
        );
        tell(
            &silent,
            "has an entry in the importance matrix that is zero, or no number; it counts as none",
            "have an entry in the importance matrix that is zero, or no number; it counts as none",
        );
        tell(
            &odd,
            "has an entry of another width in the importance matrix; it is ignored",
            "have an entry of another width in the importance matrix; it is ignored",
        );
        if let Some(imatrix) = &self.settings.importance {
            let own: HashSet<&str> = self.cells.iter().map(|c| c.called.as_str()).collect();
            // Layers that were pruned are of this model too.
            let gone = |name: &str| self.pruning.as_ref().is_some_and(|p| p.rename(name).is_none());
            let known = |name: &str| own.contains(name) || self.model.find(name).is_some() || gone(name);
            let strangers: Vec<String> = imatrix.entries.keys().filter(|n| !known(n)).cloned().collect();
            tell(
                &strangers,
                "of the importance matrix is not in this model",
                "of the importance matrix are not in this model",
            );
        }
        Ok((rows, warnings))
    }

    fn row(&self, i: usize, choice: &Choice) -> Result<Row> {
        let (cell, source, decision) = (&self.cells[i], &self.sources[i], &self.decisions[i]);
        let (ty, name) = (choice.ty, source.name.clone());
        let rows = source.dims.iter().skip(1).fold(1u64, |n, d| n.saturating_mul(*d));
        let blocks = |ty: Type| {
            let bytes = ty.row_bytes(source.cols()).ok_or_else(|| {
                Error::failed(format!("`{name}`: rows of {} are not whole blocks of {ty}", source.cols()))
            })?;
            Ok(Part { name: name.clone(), storage: Storage::U8, shape: vec![rows, bytes] })
        };
        let part = match ty.storage() {
            Some(storage) => Part { name: name.clone(), storage, shape: cell.shape.clone() },
            None => blocks(ty)?,
        };
        let copies = choice.copies(source);
        let action = match ty.storage() {
            Some(storage) if copies && self.is_made() && !self.lies_as(cell, storage) => Action::Cast(storage),
            _ if copies => Action::Copy,
            Some(storage) => Action::Cast(storage),
            None => {
                let importance = self.importance(&cell.called, source)?;
                let plain = Recipe::plain(Family::Gguf, Dtype::new(ty.name()), ty.block() as i64);
                Action::Quantize(Recipe { importance, ..plain })
            }
        };
        let reason = match choice.kind {
            Kind::Default if action == Action::Copy => Some(format!("is {ty} already")),
            Kind::Default => None,
            _ => Some(choice.why.clone()),
        };
        let cause = match choice.kind {
            Kind::Named => decision.by.clone(),
            Kind::Kept => decision.kept_by.clone().unwrap_or(Cause::Defaults),
            _ => Cause::Defaults,
        };
        let first = cell.tensors.first().map(|id| self.model.tensor(*id));
        Ok(Row {
            name,
            change: cell.change.clone(),
            sources: cell.tensors.clone(),
            shape: cell.shape.clone(),
            from: first.map_or_else(|| source.from.name().to_owned(), Tensor::dtype_name),
            to: ty.name().to_owned(),
            action,
            excluded: copies,
            reason,
            cause,
            parts: vec![part],
            slices: cell.slices.clone(),
            bias: Vec::new(),
            bytes_before: self.bytes_of(cell),
        })
    }

    /// Bytes of what a tensor is made of, as they are stored.
    fn bytes_of(&self, cell: &Cell) -> u64 {
        if cell.slices.is_empty() {
            return cell.tensors.iter().map(|id| self.model.tensor(*id).bytes).sum();
        }
        let share = |slice: &Slice| {
            let tensor = self.model.tensor(*cell.tensors.get(slice.source)?);
            let cols = slice.cols.as_ref().map_or(tensor.cols(), |c| c.end - c.start);
            let taken = u128::from(slice.rows.end - slice.rows.start) * u128::from(cols);
            Some((u128::from(tensor.bytes) * taken / u128::from(tensor.elements().max(1))) as u64)
        };
        cell.slices.iter().filter_map(share).sum()
    }

    /// Whether the bytes of all that a tensor is made of are those of its values in a type.
    fn lies_as(&self, cell: &Cell, storage: Storage) -> bool {
        let plain = |t: &Tensor| matches!(t.encoding, Encoding::Plain(_)) && t.storage == storage && !t.merged;
        let whole = cell.slices.iter().all(|s| s.cols.is_none());
        whole && cell.change == Change::None && cell.tensors.iter().all(|id| plain(self.model.tensor(*id)))
    }

    /// What becomes of one tensor when each of some patches is laid over what was chosen for it. What does not go, and
    /// what goes only without its own type, is left as it is.
    pub fn variants(&self, id: TensorId, patches: &[Patch]) -> Result<Vec<Row>> {
        let Some(i) = self.cells.iter().position(|c| c.tensors.contains(&id)) else { return Ok(Vec::new()) };
        let (source, chosen, said) = (&self.sources[i], &self.choices[i], &self.decisions[i]);
        let never = chosen.kind == Kind::Kept && !said.keeps();
        let speaks = self.importance(&self.cells[i].called, source)?.is_some();
        let needs = |ty: Type| crate::quant::ggml::Type::named(ty.name()).is_some_and(|t| t.requires_importance());
        let row = |patch: &Patch| {
            let ty = match &patch.dtype {
                Some(dtype) if patch.keep != Some(true) && !never => rules::parse_type(dtype.as_str())?,
                _ => source.from,
            };
            let goes = ty.fits(source.cols()) && (speaks || !needs(ty));
            let choice = match goes && ty != source.from {
                true => Choice { ty, kind: Kind::Named, why: String::new() },
                false => Choice { ty: source.from, kind: Kind::Kept, why: String::new() },
            };
            Ok(Row { reason: None, cause: Cause::Override, ..self.row(i, &choice)? })
        };
        patches.iter().map(row).collect()
    }

    /// What an importance matrix says of a tensor's columns. It speaks of GGUF's names before layers were pruned.
    fn importance(&self, called: &str, source: &Source) -> Result<Option<Importance>> {
        let Some(imatrix) = &self.settings.importance else { return Ok(None) };
        match imatrix.of(called, source.cols(), source.matrices()) {
            // A table of tokens is looked up, not multiplied with; what stands there is of no use.
            Err(_) if source.name == "token_embd.weight" => Ok(None),
            found => Ok(found?.filter(|i| i.silent().0 < i.silent().1)),
        }
    }

    /// What keeps the plan from being carried out: a tensor that is quantized already, a type that is not written, or
    /// one that needs an importance matrix.
    pub fn obstacles(&self) -> Result<()> {
        if let Some(architecture) = architectures::named(&self.architecture()) {
            diffusion::types::check(architecture, self.options.mixture)?;
        }
        let changed = || self.sources.iter().zip(&self.choices).filter(|(s, c)| !c.copies(s));
        for (source, choice) in changed() {
            if choice.ty.is_quantized()
                && !crate::quant::ggml::Type::named(choice.ty.name()).is_some_and(|t| t.can_encode())
            {
                return Err(unwritten(choice.ty.name()).at(format!("`{}`", source.name)));
            }
        }
        // An entry that says nothing is as good as none.
        let spoken: HashSet<&str> = (self.cells.iter().zip(&self.sources))
            .filter(|(cell, source)| matches!(self.importance(&cell.called, source), Ok(Some(_))))
            .map(|(_, source)| source.name.as_str())
            .collect();
        mixtures::check(&self.sources, &self.choices, &self.options, &|name| spoken.contains(name))?;
        // Beyond what llama-quantize asks for: there ggml stops the program.
        for (source, choice) in changed() {
            let needs = crate::quant::ggml::Type::named(choice.ty.name()).is_some_and(|t| t.requires_importance());
            if needs && !spoken.contains(source.name.as_str()) {
                let (name, ty) = (&source.name, choice.ty);
                return Err(Error::usage(format!(
                    "`{name}` to {ty} needs an entry in the importance matrix; name another type for it"
                )));
            }
        }
        Ok(())
    }

    /// `general.file_type` of the output.
    pub fn file_type(&self) -> u32 {
        let stated = self.model.numbers.get("general.file_type").and_then(|n| u32::try_from(*n).ok());
        match self.options.mixture {
            Mixture::Copy => keys::copied_file_type(stated, self.choices.iter().map(|c| c.ty)),
            mixture => mixture.number(),
        }
    }

    /// What the file is called after: the mixture, or the type of all with `--pure`.
    pub fn format(&self) -> &'static str {
        let mixture = self.options.mixture;
        if self.options.pure { mixture.default_type().name() } else { mixture.name() }
    }

    /// What is recorded of the importance matrix.
    pub fn imatrix(&self) -> Option<keys::Imatrix> {
        self.settings.importance.as_ref().map(|i| keys::Imatrix {
            file: i.file.clone(),
            dataset: i.datasets.first().cloned(),
            entries: u32::try_from(i.entries.len()).unwrap_or(u32::MAX),
            chunks: i.chunks,
        })
    }

    /// Whether each tensor's loss goes into the file.
    pub fn embeds_loss(&self) -> bool {
        self.settings.gguf.embed_loss
    }

    /// The architecture that the output names.
    pub fn architecture(&self) -> String {
        let diffusion = self.diffusion.as_ref().map(|d| d.architecture.name);
        architecture(self.model, self.mapped.as_ref().map(|m| m.architecture.name).or(diffusion), &self.overrides)
    }

    /// Whether the file's names and keys are made here rather than taken from a source of the same kind.
    pub fn is_made(&self) -> bool {
        self.mapped.is_some() || self.diffusion.is_some()
    }

    /// The source's file that a row goes with.
    pub fn file_of(&self, row: &Row) -> usize {
        let cell = self.sources.iter().position(|s| s.name == row.name).and_then(|i| self.cells.get(i));
        cell.map_or(0, |cell| place(self.model, cell).0 as usize)
    }

    /// Names and shapes of the output's tensors, in its order.
    pub fn shapes(&self) -> impl Iterator<Item = (&str, &[u64])> {
        self.sources.iter().zip(&self.cells).map(|(source, cell)| (source.name.as_str(), cell.shape.as_slice()))
    }
}

/// The tensors of the output before any is left out, each with its type before it is quantized.
fn cells(model: &Model, items: Option<Vec<hf::Item>>) -> Result<Vec<(Cell, Type)>> {
    let Some(items) = items else {
        let own = |id: TensorId| {
            let tensor = model.tensor(id);
            let (called, shape) = (tensor.name.clone(), tensor.shape.clone());
            let cell = Cell { called, shape, tensors: vec![id], slices: Vec::new(), change: Change::None };
            Ok((cell, type_of(tensor)?))
        };
        return model.ids().map(own).collect();
    };
    Ok(items
        .into_iter()
        .map(|item| {
            let hf::Item { name: called, shape, sources: tensors, slices, change, from } = item;
            (Cell { called, shape, tensors, slices, change }, from)
        })
        .collect())
}

/// Where a tensor's first source lies: which file, at which byte.
fn place(model: &Model, cell: &Cell) -> (u32, u64) {
    let array = |id: &TensorId| match &model.tensor(*id).encoding {
        Encoding::Plain(i) => Some(*i),
        Encoding::Packed { parts, .. } => parts.first().map(|p| p.array),
    };
    let Some(first) = cell.tensors.first() else { return (0, 0) };
    let stored = array(first).and_then(|i| model.stored.get(i as usize));
    stored.map_or((u32::MAX, 0), |s| (s.span.file, s.span.offset))
}

/// What a tensor is called on either side; first the name that something is set for by hand.
fn names<'n>(model: &'n Model, settings: &Settings, cell: &'n Cell, source: &'n Source) -> Vec<&'n str> {
    let mut names: Vec<&str> = cell.tensors.iter().map(|id| model.tensor(*id).name.as_str()).collect();
    names.extend([cell.called.as_str(), source.name.as_str()]);
    if let Some(set) = names.iter().position(|n| settings.overrides.contains_key(*n)) {
        names.swap(0, set);
    }
    names
}

fn architecture(model: &Model, made: Option<&str>, overrides: &[Pair]) -> String {
    const KEY: &str = "general.architecture";
    let set = overrides.iter().find(|p| *p.key == *KEY.as_bytes()).and_then(|p| p.value.as_str());
    let own = made.or_else(|| model.metadata().get(KEY).copied());
    set.or(own).unwrap_or_default().to_owned()
}

/// The type that a tensor's bytes are of.
pub fn type_of(tensor: &Tensor) -> Result<Type> {
    let found = match &tensor.encoding {
        Encoding::Plain(_) => Type::by_storage(tensor.storage),
        Encoding::Packed { recipe, .. } => Type::by_name(recipe.dtype.as_str()),
    };
    found.ok_or_else(|| Error::failed(format!("tensor `{}`: GGUF has no type {}", tensor.name, tensor.dtype_name())))
}

fn options(settings: &Settings) -> Result<Options> {
    let g = &settings.gguf;
    let ty = |dtype: &Option<Dtype>, flag: &str| {
        dtype.as_ref().map(|d| rules::parse_type(d.as_str()).map_err(|e| e.at(flag))).transpose()
    };
    let mixture = settings.defaults.dtype.as_ref().map_or("Q4_K_M", Dtype::as_str);
    Ok(Options {
        mixture: Mixture::parse(mixture)?,
        pure: g.pure,
        output_type: ty(&g.output_type, "--output-tensor-type")?,
        embedding_type: ty(&g.embedding_type, "--token-embedding-type")?,
        leave_output: g.leave_output,
        allow_requantize: g.allow_requantize,
        has_imatrix: settings.importance.as_ref().is_some_and(|i| !i.entries.is_empty()),
    })
}
