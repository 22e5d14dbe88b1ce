"""Every call of a client of MONAI Label, run by the client itself, in an environment that has it.

usage: python monai_label_calls.py CLIENT URL MODEL IMAGE LABEL FOLDER [PASSWORD]

CLIENT is the file of the client's module: that of the Python package, or that of 3D Slicer's plugin. Prints JSON.
"""

import importlib.util
import json
import sys


def main(module, url, model, image, label, folder, password=None):
    spec = importlib.util.spec_from_file_location("monai_label_client", module)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    client = loaded.MONAILabelClient(url, folder, "tester")
    said = {"auth": client.auth_enabled()}
    if password is not None:
        client.update_auth(client.auth_token("anybody", password))
        said["valid"] = client.auth_valid_token()
    said["info"] = client.info()
    said["added"] = client.upload_image(image, "my image/1")
    said["sample"] = client.next_sample("first", {})
    session = client.create_session(image)
    said["session"] = client.get_session(session["session_id"])
    said["by_session"] = client.infer(model, "", {}, session_id=session["session_id"])
    said["by_file"] = client.infer(model, "", {"result_extension": ".nrrd"}, file=image)
    said["by_id"] = client.infer(model, "my image/1", {})
    said["with_label"] = client.infer(model, "my image/1", {}, label_in=label)
    said["removed"] = client.remove_session(session["session_id"])
    try:
        client.get_session(session["session_id"])
        said["gone"] = False
    except Exception as error:
        said["gone"] = type(error).__name__
    said["first"] = client.save_label("my image/1", label, "draft", {})
    said["saved"] = client.save_label("my image/1", label, "final", {"user": "somebody"})
    said["datastore"] = client.datastore()
    said["downloaded"] = client.download_label("my image/1", "final")
    said["none_left"] = client.next_sample("first", {})
    said["after"] = client.info()["datastore"]
    said["training"] = client.train_status(check_if_running=True)
    try:
        client.infer("none", "my image/1", {})
        said["unknown_model"] = None
    except Exception as error:
        said["unknown_model"] = str(getattr(error, "msg", error))
    json.dump(said, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
