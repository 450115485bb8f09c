module incumbent.example/offline/kserve

go 1.24.1

// For its custom resources' schema alone; nothing of it is built.
require github.com/kserve/kserve v0.15.2
