module incumbent.example/offline/pause

go 1.24
