"""`config tls-init`: certificates for the registry, and what each client needs to trust them."""

import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bridge.cli import options, text

if TYPE_CHECKING:
    from bridge.registry.authority import TlsFiles

_TOLD = """\
For podbridge, in its configuration file:

  registry:
    listen: 0.0.0.0:{port}
    tls:
      certificate: {certificate}
      key: {key}

For each client, a copy of {ca} (no secret), which it must be given by hand:

  podman, buildah, skopeo   /etc/containers/certs.d/{address}/ca.crt
                            or, of one user: ~/.config/containers/certs.d/{address}/ca.crt
  docker                    /etc/docker/certs.d/{address}/ca.crt
  containerd                /etc/containerd/certs.d/{address}/ca.crt, and beside it hosts.toml:
                              server = "https://{address}"
                              [host."https://{address}"]
                                ca = "/etc/containerd/certs.d/{address}/ca.crt"
                            (config.toml must name the directory: config_path = "/etc/containerd/certs.d")
  k3s                       /etc/rancher/k3s/podbridge-ca.crt, and in /etc/rancher/k3s/registries.yaml:
                              mirrors:
                                "{address}":
                                  endpoint: ["https://{address}"]
                              configs:
                                "{address}":
                                  tls:
                                    ca_file: /etc/rancher/k3s/podbridge-ca.crt
  curl                      curl --cacert ca.crt https://{address}/v2/

k3s reads its file when it starts; the others at the next pull.
"""


@click.command("tls-init")
@click.option("--host", "hosts", multiple=True, metavar="HOST", help="A name or address of this registry; repeatable.")
@click.option("--directory", metavar="DIR", help="Where the files are; default: tls beside the configuration file.")
@options.settings("listen")
@options.as_json
@click.pass_context
def tls_init_command(
    context: click.Context, /, hosts: tuple[str, ...], directory: str | None, json_output: bool, **values: Any
) -> None:
    """Make a local CA and a certificate for the registry, and say what each client needs.

    Without --host: for this machine's name. Run again, it makes what is missing, or a new certificate
    for more hosts or before the old one ends; never a new CA.
    """
    from bridge.config import default_file
    from bridge.registry.authority import make_files

    config = options.load(context, values).config
    named = hosts or (socket.gethostname(),)
    beside = Path(values["config_file"] or context.find_root().obj or default_file()).parent / "tls"
    files, written = make_files(Path(directory or beside).absolute(), named)
    if json_output:
        made = {"ca": str(files.ca), "certificate": str(files.certificate), "key": str(files.key)}
        text.json({**made, "written": [str(path) for path in written]})
        return
    click.echo("\n".join(f"wrote {path}" for path in written) or f"everything is there already, in {files.directory}")
    click.echo()
    click.echo(_told(files, named[0], config.registry.listen.port), nl=False)


def _told(files: "TlsFiles", host: str, port: int) -> str:
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return _TOLD.format(ca=files.ca, certificate=files.certificate, key=files.key, port=port, address=address)
