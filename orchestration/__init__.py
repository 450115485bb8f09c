"""incumbent: promote MLflow models through Git and Argo CD, proved healthy before they are champion."""
