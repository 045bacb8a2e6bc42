//! What may be said on the command line. Help, manual page and completions come from here.
mod metadata;

use std::path::PathBuf;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::core::ScaleSearch;
use crate::core::rules::hadamard;
use crate::tui::theme::palette::Theme;
pub use metadata::{MetadataAddArgs, MetadataArgs, MetadataCommand};

/// A mixing desk for model weights: see what each setting costs, then write the file your runtime loads.
#[derive(Debug, Parser)]
#[command(name = "mixdown", version, about, subcommand_precedence_over_arg = true, max_term_width = 100)]
pub struct Cli {
    /// For every command.
    #[command(flatten)]
    pub global: Global,
    /// For the desk.
    #[command(flatten)]
    pub model: ModelArg,
    /// For the desk.
    #[command(flatten)]
    pub settings: SettingsArgs,
    /// For the desk.
    #[command(flatten)]
    pub desk: DeskArgs,
    /// Without one: the desk.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// How the desk looks.
#[derive(Args, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeskArgs {
    /// Colours of the desk
    #[arg(long, value_name = "NAME", value_parser = themes(), help_heading = "Desk")]
    pub theme: Option<Theme>,
    /// Draw the desk in ASCII alone
    #[arg(long, help_heading = "Desk")]
    pub ascii: bool,
}

fn themes() -> impl TypedValueParser<Value = Theme> {
    PossibleValuesParser::new(Theme::ALL.iter().map(|t| PossibleValue::new(t.name()).help(t.about())))
        .try_map(|name| Theme::parse(&name).ok_or("no such theme"))
}

/// Options of every command.
#[derive(Args, Clone, Debug, Default)]
pub struct Global {
    /// Print results only
    #[arg(long, short, global = true, help_heading = "Everywhere")]
    pub quiet: bool,
    /// Say what is done, and the causes behind an error
    #[arg(long, short, global = true, action = clap::ArgAction::Count, help_heading = "Everywhere")]
    pub verbose: u8,
    /// Colour on the terminal
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN", help_heading = "Everywhere")]
    pub color: Color,
    /// Write a log to FILE
    #[arg(long, global = true, value_name = "FILE", help_heading = "Everywhere")]
    pub log: Option<PathBuf>,
    /// Worker threads [default: all cores]; the output never depends on it
    #[arg(long, global = true, value_name = "N", help_heading = "Everywhere")]
    pub threads: Option<usize>,
    /// Bound on the working set, whatever the model's size [default: 1GiB]
    #[arg(long, global = true, value_name = "SIZE", help_heading = "Everywhere")]
    pub memory: Option<String>,
}

/// When to use colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal, unless NO_COLOR is set
    #[default]
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// Which model.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelArg {
    /// A .safetensors or .gguf file, an index, a model's or pipeline's folder, an id in the Hugging Face cache, or a
    /// short name
    #[arg(value_name = "MODEL")]
    pub model: Option<String>,
    /// The built-in model, in MODEL's place
    #[arg(long)]
    pub demo: bool,
    /// The component of a pipeline folder
    #[arg(long, value_name = "NAME")]
    pub component: Option<String>,
}

/// What to do with the tensors.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct SettingsArgs {
    /// Target family: float, sdnq, comfy, gguf, nunchaku [default: gguf for -o *.gguf, else sdnq]
    #[arg(long, value_name = "FAMILY", help_heading = "Settings")]
    pub to: Option<String>,
    /// Dtype: for sdnq int2…int16, uint1…uint16, float8_e4m3fn, float8_e5m2 and `floatN_eEmMfn[u]`, as float4_e2m1fn;
    /// for comfy float8_e4m3fn, int8_tensorwise, nvfp4, mxfp8, convrot_w4a4 and others; for float F32, F16, BF16; for
    /// gguf a mixture, as Q4_K_M, in rules a type, as Q6_K; for nunchaku int4, nvfp4 [default: int8, float8_e4m3fn,
    /// bf16, Q4_K_M, int4]
    #[arg(long, value_name = "NAME", help_heading = "Settings")]
    pub dtype: Option<String>,
    /// Values per scale: 0 the target's rule, -1 a row, -2 the whole tensor
    #[arg(long, value_name = "N", allow_negative_numbers = true, help_heading = "Settings")]
    pub group_size: Option<i64>,
    /// Rank of the low-rank branch; 0 for none
    #[arg(long, value_name = "N", allow_negative_numbers = true, help_heading = "Settings")]
    pub svd_rank: Option<u32>,
    /// Power iterations of its search
    #[arg(long, value_name = "N", allow_negative_numbers = true, help_heading = "Settings")]
    pub svd_steps: Option<u32>,
    /// Rotate weights before they are quantized: the most values that a rotation mixes [default when given: 256]
    #[arg(
        long,
        value_name = "N",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "256",
        value_parser = hadamard_size,
        overrides_with = "no_hadamard",
        help_heading = "Settings"
    )]
    pub hadamard: Option<u32>,
    /// Rotate nothing, whatever the profile says
    #[arg(long, hide = true, overrides_with = "hadamard", help_heading = "Settings")]
    pub no_hadamard: bool,
    /// Find the levels that codes stand for, group by group, instead of equal steps
    #[arg(long, overrides_with = "no_codebook", help_heading = "Settings")]
    pub codebook: bool,
    /// Equal steps, whatever the profile says
    #[arg(long, hide = true, overrides_with = "codebook", help_heading = "Settings")]
    pub no_codebook: bool,
    /// How scales are found: absmax, so that the greatest value is the greatest code, or mse, with the least squared
    /// error (comfy; nunchaku, where mse is the default)
    #[arg(long, value_name = "HOW", value_parser = scale_search, help_heading = "Settings")]
    pub scale_search: Option<ScaleSearch>,
    /// Quantize convolutions too
    #[arg(long, overrides_with = "no_quant_conv", help_heading = "Settings")]
    pub quant_conv: bool,
    /// Leave convolutions as they are, whatever the profile says
    #[arg(long, hide = true, overrides_with = "quant_conv", help_heading = "Settings")]
    pub no_quant_conv: bool,
    /// Quantize embedding tables too
    #[arg(long, overrides_with = "no_quant_embedding", help_heading = "Settings")]
    pub quant_embedding: bool,
    /// Leave embedding tables as they are, whatever the profile says
    #[arg(long, hide = true, overrides_with = "quant_embedding", help_heading = "Settings")]
    pub no_quant_embedding: bool,
    /// Choose each layer's dtype: the first, from few bits to many, that loses at most THRESHOLD of the weights'
    /// variance [default: 10^(-bits/2) of the dtype it starts from]
    #[arg(
        long,
        value_name = "THRESHOLD",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "auto",
        help_heading = "Settings"
    )]
    pub dynamic: Option<String>,
    /// Merge an adapter into the weights first: LoRA, LoHa, LoKr, DoRA (repeatable; in this order)
    #[arg(long, value_name = "FILE[:STRENGTH]", help_heading = "Settings")]
    pub lora: Vec<String>,
    /// Keep tensors whose name matches as they are (repeatable)
    #[arg(long, value_name = "REGEX", help_heading = "Settings")]
    pub exclude: Vec<String>,
    /// Quantize only tensors whose name matches (repeatable)
    #[arg(long, value_name = "REGEX", help_heading = "Settings")]
    pub include: Vec<String>,
    /// `REGEX=DTYPE[,group_size=N][,svd_rank=N][,svd_steps=N][,hadamard=N][,codebook=BOOL][,scale_search=HOW]`
    /// (repeatable; the last match wins)
    #[arg(long, value_name = "RULE", help_heading = "Settings")]
    pub tensor_type: Vec<String>,
    /// Rules as llama-quantize reads them: PATTERN=DTYPE, white-space separated, the first match wins
    #[arg(long, value_name = "FILE", help_heading = "Settings")]
    pub tensor_type_file: Option<PathBuf>,
    /// Importance matrix, as llama-imatrix writes it: weighs the errors of columns (gguf)
    #[arg(long, value_name = "FILE", help_heading = "Settings")]
    pub imatrix: Option<PathBuf>,
    /// Give every tensor the mixture's own type
    #[arg(long, help_heading = "GGUF")]
    pub pure: bool,
    /// Type of the output head
    #[arg(long, value_name = "TYPE", help_heading = "GGUF")]
    pub output_tensor_type: Option<String>,
    /// Type of the table of token embeddings
    #[arg(long, value_name = "TYPE", help_heading = "GGUF")]
    pub token_embedding_type: Option<String>,
    /// Leave the output head as it is
    #[arg(long, help_heading = "GGUF")]
    pub leave_output_tensor: bool,
    /// Quantize again what is quantized already
    #[arg(long, help_heading = "GGUF")]
    pub allow_requantize: bool,
    /// Set a key: KEY=TYPE:VALUE, TYPE one of int, float, bool, str, u8 to i64, f32, f64 (repeatable)
    #[arg(long, value_name = "KEY=TYPE:VALUE", help_heading = "GGUF")]
    pub override_kv: Vec<String>,
    /// Leave layers out: numbers, as 3,7
    #[arg(long, value_name = "LAYERS", help_heading = "GGUF")]
    pub prune_layers: Option<String>,
    /// Name of the pre-tokenizer in llama.cpp, where a model's files do not tell it
    #[arg(long, value_name = "NAME", help_heading = "GGUF")]
    pub pre: Option<String>,
    /// Write as many files as the source has, with the same tensors in each
    #[arg(long, help_heading = "GGUF")]
    pub keep_split: bool,
    /// Write each tensor's loss into the file
    #[arg(long, help_heading = "GGUF")]
    pub embed_loss: bool,
    /// Rotate weights before they are quantized, by at most N values: 4, 16, 64, 256 or 1024 [default when given: 256]
    #[arg(
        long,
        value_name = "N",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "256",
        value_parser = convrot_size,
        conflicts_with = "hadamard",
        help_heading = "ComfyUI"
    )]
    pub convrot: Option<u32>,
    /// Describe the layers in the file's header too
    #[arg(long, help_heading = "ComfyUI")]
    pub quant_metadata: bool,
    /// What tensors' names begin with, as model.diffusion_model. [default: as in the source]
    #[arg(long, value_name = "P", help_heading = "ComfyUI")]
    pub key_prefix: Option<String>,
    /// Keep the source's names, though ComfyUI calls tensors otherwise; of GGUF too
    #[arg(long, conflicts_with = "diffusers_names", help_heading = "ComfyUI")]
    pub keep_names: bool,
    /// Write a folder for diffusers' own loader, of any model: no layer is fused, and single layers may stay floats
    #[arg(long, help_heading = "Nunchaku")]
    pub lite: bool,
    /// Take smoothing from a Nunchaku file of the base model, and its rank and config where nothing else says them; or from a
    /// file of the greatest magnitudes of each layer's inputs
    #[arg(long, value_name = "FILE", help_heading = "Nunchaku")]
    pub smooth_from: Option<PathBuf>,
    /// deepcompressor's description of the model, which says where its config.json lies
    #[arg(long, value_name = "FILE", help_heading = "Nunchaku")]
    pub config_yaml: Option<PathBuf>,
    /// Where the model's config.json lies: a folder, an id in the Hugging Face cache, or a short name
    #[arg(long, value_name = "ID|DIR", help_heading = "Nunchaku")]
    pub model_path: Option<String>,
    /// Say more in the header than loaders read
    #[arg(long, help_heading = "Nunchaku")]
    pub extra_metadata: bool,
    /// Give tensors the names that diffusers has, fused layers split
    #[arg(long, help_heading = "Settings")]
    pub diffusers_names: bool,
    /// Self-description as tensors beside the layers
    #[arg(long, overrides_with = "no_metadata_tensors", help_heading = "Settings")]
    pub metadata_tensors: bool,
    /// Self-description in the file's header
    #[arg(long, overrides_with = "metadata_tensors", help_heading = "Settings")]
    pub no_metadata_tensors: bool,
    /// A profile by name, or a TOML file; flags override it
    #[arg(long, value_name = "NAME|FILE.toml", help_heading = "Settings")]
    pub profile: Option<String>,
    /// Write the resulting settings as a profile
    #[arg(long, value_name = "FILE.toml", help_heading = "Settings")]
    pub save_profile: Option<PathBuf>,
}

/// `--hadamard=N`.
fn hadamard_size(text: &str) -> Result<u32, String> {
    let size = text.parse().ok().and_then(|n| if n == 0 { Some(0) } else { hadamard::size(n) });
    size.ok_or_else(|| format!("give {}, or 0 for none", hadamard::FORM))
}

/// `--convrot=N`.
fn convrot_size(text: &str) -> Result<u32, String> {
    let size = text.parse().ok().filter(|n: &u32| [0, 4, 16, 64, 256, 1024].contains(n));
    size.ok_or_else(|| "give 4, 16, 64, 256 or 1024, or 0 for none".into())
}

/// `--scale-search HOW`.
fn scale_search(text: &str) -> Result<ScaleSearch, String> {
    ScaleSearch::parse(text).ok_or_else(|| "give absmax or mse".into())
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// What is in a model: format, architecture, tensors, metadata
    Inspect(InspectArgs),
    /// What a conversion would do, tensor by tensor, to the byte; reads headers only
    Plan(PlanArgs),
    /// Quantize in memory and show the loss of each tensor; writes no model
    Trial(TrialArgs),
    /// Quantize and write
    Convert(ConvertArgs),
    /// Several dtypes or mixtures side by side: size, loss, time, and what a command makes of each
    Bench(BenchArgs),
    /// What two models differ by: keys, tensors, and with --values their numbers
    Diff(DiffArgs),
    /// Check that what loads a quantized model will load it, and compute the right thing
    Validate(ValidateArgs),
    /// Read or repair what a file says of itself in its header
    Metadata(MetadataArgs),
    /// Saved profiles and built-in presets
    Profile(ProfileArgs),
    /// Completions for a shell
    Completions {
        /// Which shell
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
    /// The manual page
    Man,
}

/// `inspect`.
#[derive(Args, Debug)]
pub struct InspectArgs {
    /// Which model.
    #[command(flatten)]
    pub model: ModelArg,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
    /// One tensor, by its full name
    #[arg(long, value_name = "NAME")]
    pub tensor: Option<String>,
}

/// `plan`.
#[derive(Args, Debug)]
pub struct PlanArgs {
    /// Which model.
    #[command(flatten)]
    pub model: ModelArg,
    /// What to do.
    #[command(flatten)]
    pub settings: SettingsArgs,
    /// Plan for this output: a .safetensors or .gguf file, or a folder
    #[arg(long, short, value_name = "OUT")]
    pub output: Option<PathBuf>,
    /// Bytes of tensors that a shard may hold
    #[arg(long, value_name = "SIZE")]
    pub max_shard_size: Option<String>,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

/// `trial`.
#[derive(Args, Debug)]
pub struct TrialArgs {
    /// Which model.
    #[command(flatten)]
    pub model: ModelArg,
    /// What to do.
    #[command(flatten)]
    pub settings: SettingsArgs,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
    /// Write the losses as CSV
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
    /// Try only tensors whose name matches
    #[arg(long, value_name = "REGEX")]
    pub tensor: Option<String>,
    /// Try every other dtype, group size and rank on these; the best trade-offs are marked
    #[arg(long, conflicts_with = "csv")]
    pub what_if: bool,
}

/// `convert`.
#[derive(Args, Debug)]
pub struct ConvertArgs {
    /// Which model.
    #[command(flatten)]
    pub model: ModelArg,
    /// What to do.
    #[command(flatten)]
    pub settings: SettingsArgs,
    /// What to write: a .safetensors or .gguf file, or a folder with everything that belongs to the model
    #[arg(long, short, value_name = "OUT")]
    pub output: PathBuf,
    /// Replace what stands there
    #[arg(long)]
    pub force: bool,
    /// Bytes of tensors that a shard may hold
    #[arg(long, value_name = "SIZE")]
    pub max_shard_size: Option<String>,
    /// Write the loss of each tensor, as JSON or (FILE.csv) as CSV
    #[arg(long, value_name = "FILE")]
    pub loss_report: Option<PathBuf>,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

/// `bench`.
#[derive(Args, Debug)]
pub struct BenchArgs {
    /// Which model.
    #[command(flatten)]
    pub model: ModelArg,
    /// MODEL, by name
    #[arg(long = "model", value_name = "MODEL", hide = true)]
    pub model_flag: Option<String>,
    /// What to do.
    #[command(flatten)]
    pub settings: SettingsArgs,
    /// The dtypes or mixtures, as --dtype has them
    #[arg(long, value_name = "NAME", num_args = 1.., required = true, value_delimiter = ',')]
    pub modes: Vec<String>,
    /// Run a command on each file, {} standing for its name; the last number of the last line that it prints is shown,
    /// what follows a ± aside. Files are written to the system's folder for temporary ones (TMPDIR)
    #[arg(long, value_name = "CMD")]
    pub run: Option<String>,
    /// Draw loss against size
    #[arg(long, value_name = "FILE.svg")]
    pub plot: Option<PathBuf>,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

/// `diff`.
#[derive(Args, Debug)]
pub struct DiffArgs {
    /// Two models, the second perhaps made of the first
    #[arg(value_names = ["A", "B"], num_args = 1..=2, required = true)]
    pub models: Vec<String>,
    /// The built-in model, in A's place
    #[arg(long)]
    pub demo: bool,
    /// The component of pipeline folders
    #[arg(long, value_name = "NAME")]
    pub component: Option<String>,
    /// Assert that B is a faithful quantization of A; then the exit code tells that alone
    #[arg(long)]
    pub check: bool,
    /// Compare the numbers too
    #[arg(long)]
    pub values: bool,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

/// `validate`.
#[derive(Args, Debug)]
pub struct ValidateArgs {
    /// Which model.
    #[command(flatten)]
    pub model: ModelArg,
    /// Compare with the model that it was made from
    #[arg(long, value_name = "MODEL")]
    pub against: Option<String>,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

/// `profile`.
#[derive(Args, Debug)]
pub struct ProfileArgs {
    /// What about them.
    #[command(subcommand)]
    pub command: ProfileCommand,
}

/// What to do with profiles.
#[derive(Debug, Subcommand)]
pub enum ProfileCommand {
    /// Saved profiles and built-in presets
    List {
        /// Print one JSON document
        #[arg(long)]
        json: bool,
    },
    /// The text of one
    Show {
        /// A profile's or preset's name, or a TOML file
        name: String,
    },
    /// Where profiles are kept, or where one is
    Path {
        /// A profile's name
        name: Option<String>,
    },
    /// A profile as another tool's settings
    ///
    /// What the other tool's patterns cannot say is an error, unless MODEL is given: then its layers are named one by
    /// one, and the preset for its class is told too.
    Export {
        /// A profile's name, or a TOML file
        #[arg(value_name = "NAME|FILE.toml")]
        name: String,
        /// For which model.
        #[command(flatten)]
        model: ModelArg,
        /// Whose settings: sdnq, an SDNQConfig as JSON; ctq, a layer config of convert_to_quant, which needs MODEL
        #[arg(long = "as", value_enum, value_name = "TOOL", hide_possible_values = true)]
        tool: Tool,
        /// Write them to FILE
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Another tool's settings as a profile; what it cannot say is told
    Import {
        /// For sdnq a quantization_config.json, or a config.json with a `quantization_config` in it; for ctq a layer
        /// config
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Whose settings: sdnq, ctq
        #[arg(long = "as", value_enum, value_name = "TOOL", hide_possible_values = true)]
        tool: Tool,
        /// Write the profile to a file
        #[arg(long, short, value_name = "FILE.toml")]
        output: Option<PathBuf>,
        /// Keep it as a named profile
        #[arg(long, value_name = "NAME", conflicts_with = "output")]
        save: Option<String>,
    },
}

/// Tools whose settings are understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Tool {
    /// The sdnq library, and SD.Next.
    Sdnq,
    /// convert_to_quant.
    Ctq,
}
