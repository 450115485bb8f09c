"""Generated manifests, in all the layouts that people and tools give them."""

from dataclasses import dataclass

from hypothesis import strategies as st

from orchestration.promotion.manifest_place import Selector

SELECTOR = Selector("deployment.yaml", "Deployment", "ml-apps", "iris", "model-server")
DIGEST = "sha256:" + "ab" * 32

TAGS = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,12}", fullmatch=True)
DIGESTS = st.from_regex(r"sha256:[0-9a-f]{64}", fullmatch=True)
REPOSITORIES = st.sampled_from(["ghcr.io/team/model", "localhost:5000/m", "nginx", "100.85.38.128:30500/a_b/c--d"])
IMAGES = st.builds(
    lambda repository, tag, digest: repository + (f":{tag}" if tag else "") + (f"@{digest}" if digest else ""),
    REPOSITORIES,
    TAGS,
    st.none() | DIGESTS,
)
_COMMENTS = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zl", "Zp", "Cn", "Co")), max_size=12)


@dataclass(frozen=True)
class Manifest:
    """A file as the text before the image's scalar, the scalar's quotes and image, and the text after it."""

    before: str
    quote: str
    image: str
    after: str

    @property
    def content(self) -> bytes:
        return self.with_image(self.image)

    def with_image(self, image: str) -> bytes:
        return f"{self.before}{self.quote}{image}{self.quote}{self.after}".encode()


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    """Draw a stream that has the Deployment of `SELECTOR` exactly once, among other documents and containers."""
    step = " " * draw(st.integers(1, 7))
    dash = "-" + " " * draw(st.integers(1, 4))

    def comment(prefix: str = "  ") -> str:
        text = draw(st.none() | _COMMENTS)
        return "" if text is None else f"{prefix}# {text}"

    inner = step * 4 if draw(st.booleans()) else step * 3
    pad = inner + " " * len(dash)
    sidecar = [f"{inner}{dash}name: sidecar{comment()}", f"{pad}image: 'ghcr.io/team/model:1'{comment()}"]
    head = [
        *draw(st.sampled_from([[], ["kind: Service", "metadata: {name: iris, namespace: ml-apps}", "---"], ["---"]])),
        f"# Größe 😀{comment('')}",
        *draw(st.permutations([f"apiVersion: apps/v1{comment()}", f"kind: Deployment{comment()}"])),
        "metadata:",
        f"{step}namespace: ml-apps",
        f'{step}name: "iris"{comment()}',
        f'{step}annotations: {{a: "image: x", b: [1, 2]}}',
        "spec:",
        f"{step}template:",
        f"{step * 2}spec:",
        f"{step * 3}containers:{comment()}",
        *(sidecar if draw(st.booleans()) else []),
        f"{inner}{dash}name: model-server{comment()}",
    ]
    tail = [
        f"{pad}args: [--text, 'naïve']{comment()}",
        *(sidecar if not any("sidecar" in line for line in head) and draw(st.booleans()) else []),
        *draw(
            st.sampled_from([[], ["---", "kind: Deployment", "metadata: {name: other, namespace: ml-apps}"], ["..."]])
        ),
    ]
    ends = draw(st.lists(st.sampled_from(["\n", "\r\n"]), min_size=1, max_size=4))
    lines = [line + ends[number % len(ends)] for number, line in enumerate([*head, *tail])]
    bom = draw(st.sampled_from(["", "\ufeff"]))
    before = bom + "".join(lines[: len(head)]) + f"{pad}image:" + " " * draw(st.integers(1, 3))
    after = comment() + draw(st.sampled_from(["\n", "\r\n"])) + "".join(lines[len(head) :])
    return Manifest(before, draw(st.sampled_from(["", "'", '"'])), draw(IMAGES), after)
