"""Form bodies and query strings with bracket nesting, as Stripe reads them: `a[b]=1`, `list[0]=x`, `list[]=y`."""

from urllib.parse import parse_qsl

from sandbox.stripe.errors import Fault, invalid

Tree = dict[str, "str | Tree"]
FIELDS_MAX = 1000
DEPTH_MAX = 12


def pairs(raw: bytes) -> list[tuple[str, str]]:
    """The decoded name and value pairs; blank values stay, for Stripe unsets by them."""
    try:
        return parse_qsl(raw.decode(), keep_blank_values=True, max_num_fields=FIELDS_MAX, errors="strict")
    except ValueError as error:
        raise Fault(400, "Invalid request: the parameters are not form-encoded UTF-8.") from error


def tree(fields: list[tuple[str, str]]) -> Tree:
    """`a[b][0]=x` as `{"a": {"b": {"0": "x"}}}`; a list is a tree whose keys are its places."""
    root: Tree = {}
    for name, value in fields:
        if "[" not in name:
            root[name] = value
        else:
            _insert(root, name, value)
    return root


def _insert(root: Tree, name: str, value: str) -> None:
    head, _, rest = name.partition("[")
    keys = [head, *rest.removesuffix("]").split("][")]
    if not head or not rest.endswith("]") or len(keys) > DEPTH_MAX:
        raise invalid(f"Invalid parameter name: {name[:200]}")
    node = root
    for key in keys[:-1]:
        child = node.setdefault(key or str(len(node)), {})
        if isinstance(child, str):
            raise invalid("Invalid object", head)
        node = child
    node[keys[-1] or str(len(node))] = value
