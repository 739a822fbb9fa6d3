//! How a resource type is described, and how that description looks on the wire.

use crate::value::Value;
use crate::wire;

/// The type of an attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`.
    Bool,
    /// A number.
    Number,
    /// Text.
    String,
    /// Text by name.
    StringMap,
    /// Texts in order.
    StringList,
    /// Texts without order.
    StringSet,
}

impl Kind {
    /// Terraform's own notation of the type, JSON.
    fn notation(self) -> &'static str {
        match self {
            Kind::Bool => r#""bool""#,
            Kind::Number => r#""number""#,
            Kind::String => r#""string""#,
            Kind::StringMap => r#"["map","string"]"#,
            Kind::StringList => r#"["list","string"]"#,
            Kind::StringSet => r#"["set","string"]"#,
        }
    }

    /// Whether it holds any number of values.
    #[must_use]
    pub fn is_collection(self) -> bool {
        matches!(self, Kind::StringMap | Kind::StringList | Kind::StringSet)
    }

    /// What Google answers for an attribute of which this stand-in knows nothing.
    #[must_use]
    pub fn blank(self) -> Value {
        match self {
            Kind::Bool => Value::Bool(false),
            Kind::Number => Value::Number(0.0),
            Kind::String => Value::String(String::new()),
            Kind::StringMap => Value::object(),
            Kind::StringList | Kind::StringSet => Value::List(Vec::new()),
        }
    }
}

/// One attribute.
#[derive(Debug, Clone)]
pub struct Attribute {
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// Must be given.
    pub required: bool,
    /// May be given.
    pub optional: bool,
    /// Google decides it where it is not given.
    pub computed: bool,
    /// A change means a new resource.
    pub force_new: bool,
    /// Taken where it is not given.
    pub default: Option<Value>,
    /// The values that are allowed; empty where any is.
    pub one_of: &'static [&'static str],
}

impl Attribute {
    fn new(name: &'static str, kind: Kind) -> Attribute {
        Attribute {
            name,
            kind,
            required: false,
            optional: false,
            computed: false,
            force_new: false,
            default: None,
            one_of: &[],
        }
    }

    /// It must be given.
    #[must_use]
    pub fn required(mut self) -> Attribute {
        self.required = true;
        self
    }

    /// It may be given.
    #[must_use]
    pub fn optional(mut self) -> Attribute {
        self.optional = true;
        self
    }

    /// Google decides it where it is not given.
    #[must_use]
    pub fn computed(mut self) -> Attribute {
        self.computed = true;
        self
    }

    /// A change means a new resource.
    #[must_use]
    pub fn force_new(mut self) -> Attribute {
        self.force_new = true;
        self
    }

    /// What is taken where it is not given. On the wire such an attribute is computed as well,
    /// since Terraform lets no provider fill in any other.
    #[must_use]
    pub fn default(mut self, value: impl Into<Value>) -> Attribute {
        self.default = Some(value.into());
        self.optional().computed()
    }

    /// The values that are allowed.
    #[must_use]
    pub fn one_of(mut self, values: &'static [&'static str]) -> Attribute {
        self.one_of = values;
        self
    }
}

/// An attribute of type text.
#[must_use]
pub fn string(name: &'static str) -> Attribute {
    Attribute::new(name, Kind::String)
}

/// An attribute of type number.
#[must_use]
pub fn number(name: &'static str) -> Attribute {
    Attribute::new(name, Kind::Number)
}

/// An attribute that is true or false.
#[must_use]
pub fn boolean(name: &'static str) -> Attribute {
    Attribute::new(name, Kind::Bool)
}

/// An attribute that maps names to texts.
#[must_use]
pub fn string_map(name: &'static str) -> Attribute {
    Attribute::new(name, Kind::StringMap)
}

/// An attribute that lists texts.
#[must_use]
pub fn string_list(name: &'static str) -> Attribute {
    Attribute::new(name, Kind::StringList)
}

/// An attribute that is a set of texts.
#[must_use]
pub fn string_set(name: &'static str) -> Attribute {
    Attribute::new(name, Kind::StringSet)
}

/// Attributes and the blocks among them.
#[derive(Debug, Clone, Default)]
pub struct Block {
    /// Its attributes.
    pub attributes: Vec<Attribute>,
    /// Its blocks.
    pub blocks: Vec<NestedBlock>,
}

/// A block within a block.
#[derive(Debug, Clone)]
pub struct NestedBlock {
    /// Its name.
    pub name: &'static str,
    /// What it holds.
    pub block: Block,
    /// Without order.
    pub set: bool,
    /// How many there must be.
    pub min: u32,
    /// How many there may be; 0 for any number.
    pub max: u32,
    /// Adding or removing one means a new resource.
    pub force_new: bool,
}

impl NestedBlock {
    /// A list of blocks.
    #[must_use]
    pub fn list(name: &'static str, block: Block) -> NestedBlock {
        NestedBlock {
            name,
            block,
            set: false,
            min: 0,
            max: 0,
            force_new: false,
        }
    }

    /// A set of blocks. Its attributes must neither be computed nor have a default.
    #[must_use]
    pub fn set(name: &'static str, block: Block) -> NestedBlock {
        NestedBlock {
            set: true,
            ..NestedBlock::list(name, block)
        }
    }

    /// At most one.
    #[must_use]
    pub fn single(mut self) -> NestedBlock {
        self.max = 1;
        self
    }

    /// At least one.
    #[must_use]
    pub fn required(mut self) -> NestedBlock {
        self.min = 1;
        self
    }

    /// Adding or removing one means a new resource.
    #[must_use]
    pub fn force_new(mut self) -> NestedBlock {
        self.force_new = true;
        self
    }
}

impl Block {
    /// The values that a configuration may not have, a sentence each.
    #[must_use]
    pub fn check(&self, config: &Value, path: &str) -> Vec<String> {
        let mut wrong = Vec::new();
        for attribute in &self.attributes {
            if let Some(text) = config.get(attribute.name).text()
                && !attribute.one_of.is_empty()
                && !attribute.one_of.contains(&text)
            {
                wrong.push(format!(
                    "expected {path}{} to be one of {:?}, got {text}",
                    attribute.name, attribute.one_of
                ));
            }
        }
        for nested in &self.blocks {
            for (index, item) in config.get(nested.name).items().iter().enumerate() {
                let path = format!("{path}{}.{index}.", nested.name);
                wrong.extend(nested.block.check(item, &path));
            }
        }
        wrong
    }

    /// A resource of which nothing is known.
    #[must_use]
    pub fn unset(&self) -> Value {
        let mut value = Value::object();
        for attribute in &self.attributes {
            value.set(attribute.name, Value::Null);
        }
        for nested in &self.blocks {
            value.set(nested.name, Value::List(Vec::new()));
        }
        value
    }

    /// The description on the wire.
    #[must_use]
    pub fn to_wire(&self) -> wire::Schema {
        wire::Schema {
            version: 0,
            block: Some(self.block_to_wire()),
        }
    }

    fn block_to_wire(&self) -> wire::schema::Block {
        use wire::schema::nested_block::NestingMode;
        wire::schema::Block {
            version: 0,
            attributes: self.attributes.iter().map(attribute_to_wire).collect(),
            block_types: self
                .blocks
                .iter()
                .map(|nested| wire::schema::NestedBlock {
                    type_name: nested.name.into(),
                    block: Some(nested.block.block_to_wire()),
                    nesting: if nested.set {
                        NestingMode::Set
                    } else {
                        NestingMode::List
                    }
                    .into(),
                    min_items: nested.min.into(),
                    max_items: nested.max.into(),
                })
                .collect(),
        }
    }
}

fn attribute_to_wire(attribute: &Attribute) -> wire::schema::Attribute {
    wire::schema::Attribute {
        name: attribute.name.into(),
        r#type: attribute.kind.notation().into(),
        required: attribute.required,
        optional: attribute.optional,
        computed: attribute.computed,
        sensitive: false,
    }
}
