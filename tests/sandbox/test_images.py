"""Images that the testbeds build: equal content has an equal digest, layers are pushed once, and digests are pinned."""

import json
import os
import tarfile
from pathlib import Path

import pytest

from orchestration.promotion.images import ImageRef
from orchestration.promotion.problems import ProblemError
from testbeds.common.layers import Layer, LayerWriter, layer_in_memory, read_layer, write_layer
from testbeds.common.oci import Image, Registry, read_docker_archive, write_docker_archive
from testbeds.homelab.images import MODEL_FOLDER, model_image
from testbeds.homelab.pin_digests import pin
from tests.fakes.images import FakeImages

SETTINGS = {"Env": ["A=1", "B=x=y"], "Cmd": ["serve"]}


def layer(path: str, content: bytes) -> Layer:
    """Return a layer with one file."""
    return layer_in_memory(lambda writer: writer.file(path, content))


def without_content(image: Image) -> Image:
    """Return the image as a registry describes it."""
    layers = tuple(Layer(each.digest, each.size, each.diff_id, None, each.media_type) for each in image.layers)
    return Image(layers, image.settings, image.architecture)


def test_a_layer_depends_on_its_content_alone(tmp_path: Path) -> None:
    """A layer keeps its files' kinds and modes, but its digest does not depend on times and owners."""
    digests = set()
    for number in range(2):
        source = tmp_path / f"source-{number}"
        (source / "inner").mkdir(parents=True)
        (source / "inner" / "program").write_bytes(b"#!")
        (source / "inner" / "program").chmod(0o755)
        (source / "link").symlink_to("inner")
        (source / "left-out").write_bytes(b"")
        os.utime(source / "inner" / "program", (number, number))

        def fill(writer: LayerWriter, source: Path = source) -> None:
            writer.tree("srv/tree", source, lambda path: path.name == "left-out")
            writer.folder("data", 0o700, 999)

        write_layer(tmp_path / f"layer-{number}", fill)
        written = read_layer(tmp_path / f"layer-{number}")
        tar_file = tmp_path / f"layer-{number}" / "layer.tar"
        assert written == Layer(written.digest, written.size, written.digest, tar_file)
        assert layer_in_memory(fill).digest == written.digest
        digests.add(written.digest)
        with tarfile.open(tar_file) as tar:
            entries = {entry.name: (entry.mode, entry.uid, entry.mtime) for entry in tar}
    assert len(digests) == 1
    assert list(entries) == ["srv", "srv/tree", "srv/tree/inner", "srv/tree/inner/program", "srv/tree/link", "data"]
    assert entries["srv/tree/inner/program"] == (0o755, 0, 0)
    assert entries["data"] == (0o700, 999, 0)


def test_an_image_is_read_as_it_was_pushed(registry_url: str) -> None:
    """Layers, settings and architecture are read back as pushed, and another tag of the image has the same digest."""
    image = Image((layer("a", b"1"), layer("b", b"2")), SETTINGS, "arm64")
    registry = Registry(registry_url)
    assert registry.push("team/one", "v1", image) == image.digest
    assert registry.push("team/one", "v2", image) == image.digest
    assert registry.read("team/one", "v1") == without_content(image)
    assert registry.read("team/one", "v3") is None
    assert registry.read("team/two", "v1") is None


def test_a_layer_that_the_registry_has_is_mounted(registry_url: str) -> None:
    """Pushing an image that extends another sends no layer of its base, even to another repository."""
    base = Image((layer("base", b"b" * 1000),), SETTINGS)
    Registry(registry_url).push("library/base", "1", base)
    registry = Registry(registry_url)
    pulled = registry.read("library/base", "1")
    assert pulled is not None
    image = pulled.extended(layer("top", b"t"), environment={"B": "z", "C": "3"}, Cmd=["other"])
    registry.push("team/on-top", "1", image)
    pushed = Registry(registry_url).read("team/on-top", "1")
    assert pushed is not None
    assert [each.digest for each in pushed.layers] == [base.layers[0].digest, layer("top", b"t").digest]
    assert pushed.settings == {"Env": ["A=1", "B=z", "C=3"], "Cmd": ["other"]}


def test_a_layer_without_content_is_an_error(registry_url: str) -> None:
    """Pushing an image fails when neither this machine nor the registry has the content of a layer."""
    image = without_content(Image((layer("lost", b"lost"),), SETTINGS))
    with pytest.raises(ProblemError, match=rf"team/hole: .*found no {image.layers[0].digest}"):
        Registry(registry_url).push("team/hole", "1", image)


def test_a_docker_archive_is_read_as_it_was_written(tmp_path: Path) -> None:
    """The file that is written for `docker load` is read back as the same image."""
    write_layer(tmp_path / "one", lambda writer: writer.file("a", b"1"))
    write_layer(tmp_path / "two", lambda writer: writer.file("b", b"2"))
    image = Image((read_layer(tmp_path / "one"), read_layer(tmp_path / "two")), SETTINGS)
    write_docker_archive(image, "team/image:1", tmp_path / "image.tar")
    read = read_docker_archive(tmp_path / "image.tar", tmp_path)
    assert without_content(read) == without_content(image)
    assert [each.content.read_bytes() for each in read.layers if isinstance(each.content, Path)] == [
        each.content.read_bytes() for each in image.layers if isinstance(each.content, Path)
    ]


def test_each_version_has_an_image_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Versions share all layers but the last, even with equal models, and name their model in the environment."""
    monkeypatch.setenv("HOMELAB_CACHE", str(tmp_path / "cache"))
    model = tmp_path / "model"
    model.mkdir()
    (model / "model.json").write_text("{}")
    base, libraries = Image((layer("python", b""),), {"Env": ["PATH=/bin"]}), layer("libraries", b"")
    first, second = (
        model_image(base, libraries, model, f"tag-{number}", {"MODEL_URI": f"models:/m/{number}"}) for number in (1, 2)
    )
    assert first.layers[:3] == second.layers[:3]
    assert first.layers[3].digest != second.layers[3].digest
    assert {"PATH=/bin", "MODEL_URI=models:/m/1", f"MODEL_DIR={MODEL_FOLDER}"} < set(first.settings["Env"])
    assert first.settings["User"] == "10001:10001"


WORKLOADS = b"""# kept
kind: ConfigMap
metadata: {name: c}
---
kind: Deployment
metadata: {name: d, namespace: n}
spec:
  template:
    spec:
      initContainers:
        - {name: i, image: "docker.io/team/init:1"} # kept too
      containers:
        - name: c
          image: docker.io/team/main:2@sha256:%s
""" % (b"0" * 64)


def test_digests_are_pinned_in_place(tmp_path: Path) -> None:
    """Each workload's image gets its tag's current digest, even in place of an older one; nothing else changes."""
    images = FakeImages()
    init, main = images.publish("docker.io/team/init", "1"), images.publish("docker.io/team/main", "2")
    (tmp_path / "inner").mkdir()
    file = tmp_path / "inner" / "d.yaml"
    file.write_bytes(WORKLOADS)
    (tmp_path / "other.yaml").write_text("kind: Service\n")
    assert len(list(pin(tmp_path, images))) == 2
    expected = WORKLOADS.replace(b"init:1", f"init:1@{init}".encode()).replace(b"sha256:" + b"0" * 64, main.encode())
    assert file.read_bytes() == expected
    assert list(pin(tmp_path, images)) == []
    assert images.resolve(ImageRef("docker.io/team/main", "2")) is not None


def test_the_image_of_a_cron_job_is_pinned(tmp_path: Path) -> None:
    """The image of a CronJob, whose pod template lies one level deeper, is pinned as well."""
    images = FakeImages()
    digest = images.publish("docker.io/team/main", "2")
    pod = {"containers": [{"name": "c", "image": "docker.io/team/main:2"}]}
    spec = {"jobTemplate": {"spec": {"template": {"spec": pod}}}}
    file = tmp_path / "job.yaml"
    file.write_text(json.dumps({"kind": "CronJob", "metadata": {"name": "j", "namespace": "n"}, "spec": spec}))
    assert len(list(pin(tmp_path, images))) == 1
    assert f"docker.io/team/main:2@{digest}" in file.read_text()


def test_an_unknown_image_is_not_pinned(tmp_path: Path) -> None:
    """An image that its registry does not have leads to an error that names it, and its file does not change."""
    file = tmp_path / "d.yaml"
    file.write_bytes(WORKLOADS)
    with pytest.raises(ProblemError, match=r"docker\.io/team/init:1.*no such image"):
        list(pin(tmp_path, FakeImages()))
    assert file.read_bytes() == WORKLOADS
